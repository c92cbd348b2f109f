package cache

import (
	"reflect"
	"strings"
	"testing"
)

func TestValidateDriver(t *testing.T) {
	t.Parallel()
	tcp := func(address string) driver { return driver{network: "tcp", addresses: []string{address}} }
	with := func(d driver, change func(d *driver)) driver {
		change(&d)
		return d
	}
	for s, want := range map[string]driver{
		"redis:":           tcp("127.0.0.1:6379"),
		"redis://":         tcp("127.0.0.1:6379"),
		"redis://10.0.0.1": tcp("10.0.0.1:6379"),
		"redis://:6380":    tcp("127.0.0.1:6380"),
		"redis://:pw@h:6380/2#px:": with(tcp("h:6380"), func(d *driver) {
			d.password, d.database, d.prefix = "pw", 2, "px:"
		}),
		"redis://u:pw@[::1]:6380/":         with(tcp("[::1]:6380"), func(d *driver) { d.user, d.password = "u", "pw" }),
		"redis://:p%23w@10.0.0.1:1/0#a#b:": with(tcp("10.0.0.1:1"), func(d *driver) { d.password, d.prefix = "p#w", "a#b:" }),
		"redis://:p,w@10.0.0.1:1":          with(tcp("10.0.0.1:1"), func(d *driver) { d.password = "p,w" }),
		"rediss://h?ca=/a.pem&cert=c.pem&key=k.pem#p": with(tcp("h:6379"), func(d *driver) {
			d.secure, d.caFile, d.certFile, d.keyFile, d.prefix = true, "/a.pem", "c.pem", "k.pem", "p"
		}),
		"unix:/run/redis.sock?db=1#px": {network: "unix", addresses: []string{"/run/redis.sock"}, database: 1, prefix: "px"},
		"unix:///run/redis.sock":       {network: "unix", addresses: []string{"/run/redis.sock"}},
		"redis+sentinel://:pw@h1:1,h2,[::1]:3/main/2?sentinelUser=su&sentinelPassword=sp#px:": {
			network: "tcp", topology: sentinelMaster, addresses: []string{"h1:1", "h2:26379", "[::1]:3"}, password: "pw",
			master: "main", database: 2, sentinelUser: "su", sentinelPassword: "sp", prefix: "px:",
		},
		"rediss+sentinel://h/main?ca=a": {
			network: "tcp", topology: sentinelMaster, addresses: []string{"h:26379"}, master: "main", secure: true, caFile: "a",
		},
		"redis+cluster://u:p@h1,h2:7001#px": {
			network: "tcp", topology: clusterNodes, addresses: []string{"h1:6379", "h2:7001"}, user: "u", password: "p", prefix: "px",
		},
		"rediss+cluster://h/0":           {network: "tcp", topology: clusterNodes, addresses: []string{"h:6379"}, secure: true},
		"file:/etc/routes.json":          {file: "/etc/routes.json"},
		"file:///etc/routes.json":        {file: "/etc/routes.json"},
		"file:routes.json":               {file: "routes.json"},
		"file:with#hash and space?.json": {file: "with#hash and space?.json"},
	} {
		got, err := parseDriver(s)
		got.serverName = "" // follows from the address
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", s, got, err, want)
		}
	}
}

func TestValidateDriver_NamesTheRule(t *testing.T) {
	t.Parallel()
	for s, rule := range map[string]string{
		"":                                    "is none of redis",
		"redis":                               "is none of redis",
		"http://h":                            "is none of redis",
		"redis+foo://h":                       "redis+sentinel",
		"unix+cluster://h":                    "redis+cluster",
		"file:":                               "needs a path",
		"unix:":                               "absolute path",
		"unix://host/path":                    "absolute path",
		"unix:/s?x=1":                         "no option of",
		"redis:6379":                          "host:port",
		"redis://h:0":                         "port",
		"redis://h:x":                         "not a URL",
		"redis://h/x":                         "database",
		"redis://h/-1":                        "database",
		"redis://h?x=1":                       "no option of",
		"redis://h?ca=x":                      "write rediss",
		"rediss://h?cert=x":                   "give both",
		"rediss://h?ca=":                      "one value",
		"rediss://h?ca=a&ca=b":                "one value",
		"redis://user@h":                      "without a password",
		"redis://:sec%ret@h":                  "percent-encode",
		"redis://h1,h2":                       "redis+sentinel://",
		"redis+sentinel://h1,h2":              "master's name",
		"redis+sentinel://h1,h2/":             "master's name",
		"redis+sentinel://h1,,h2/m":           "is empty",
		"redis+sentinel://h1,h2:99999/m":      "port",
		"redis+sentinel://h1,h2:x/m":          "name:port",
		"redis+sentinel://h1,::1/m":           "[2001:db8::1]:port",
		"redis+sentinel://h/m/x":              "database",
		"redis+sentinel://h/m?sentinelUser=u": "sentinelPassword",
		"redis+sentinel:h/m":                  "redis+sentinel://host:port",
		"redis+cluster://h1,h2/3":             "database 0",
		"redis+cluster://h1?sentinelPassword=pwd": "no option",
	} {
		if err := ValidateDriver(s); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%q: got error %v, want one with %q", s, err, rule)
		}
	}
}

func TestNew_HoldsDriversAgainstEachOther(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		drivers []string
		rule    string
	}{
		{[]string{"redis:", "redis:", "redis:"}, "one, or a read replica"},
		{[]string{"redis:", "file:a.json"}, "file: stands alone"},
		{[]string{"redis+cluster://h", "redis:"}, "redis+cluster: stands alone"},
		{[]string{"redis+sentinel://h/m", "redis:"}, "stands alone or second"},
		{[]string{"rediss://h?ca=/nowhere/ca.pem"}, "/nowhere/ca.pem"},
		{[]string{"rediss://h?ca=driver_test.go"}, "holds no certificate"},
		{[]string{"rediss://h?cert=/nowhere/c.pem&key=/nowhere/k.pem"}, "/nowhere/c.pem"},
	} {
		if _, err := New(Options{Driver: tt.drivers}); err == nil || !strings.Contains(err.Error(), tt.rule) {
			t.Errorf("%v: got error %v, want one with %q", tt.drivers, err, tt.rule)
		}
	}
}

func TestValidateDriver_NeverShowsAPassword(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"redis://:hush%zz@h", "redis://:hush@h:99999", "http://:hush@h", "redis://:hush@h/x", "redis://:hush@h1,h2",
		"redis+sentinel://:hush@h1,h2", "redis+sentinel://h1/m?sentinelPassword=hush&x=y",
		"redis+sentinel://h1/m?sentinelPassword=hush&sentinelPassword=hush", "redis+cluster://:hush@h1,h2:x",
		"redis+cluster://h1,:hush@h2", "redis+cluster://:hush@h1/5", "rediss+cluster://h?cert=x&password=hush",
	} {
		err := ValidateDriver(s)
		if err == nil {
			t.Errorf("%s: accepted", s)
		} else if got := err.Error(); strings.Contains(got, "hush") {
			t.Errorf("%s: the error shows the password: %s", s, got)
		}
	}
}
