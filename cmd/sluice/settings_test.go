package main

import (
	"reflect"
	"testing"
	"time"

	"sluice/cache"
	"sluice/internal/config"
	"sluice/proxy"
)

// emptyFile loads a configuration file that sets nothing.
func emptyFile(t *testing.T) *config.Config {
	t.Helper()
	cfg, _, err := config.Load(config.LoadOptions{File: writeConfig(t, `{}`)})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// The defaults stand in the table of keys and in the proxy: they must be the same.
func TestProxySettings_DefaultsAgree(t *testing.T) {
	t.Parallel()
	got, err := proxySettings(emptyFile(t))
	if err != nil {
		t.Fatal(err)
	}
	want := proxy.DefaultConfig()
	want.Version = programVersion()
	want.MaxConnections, want.MaxTunnels = got.MaxConnections, got.MaxTunnels // these follow from the system
	gotFields, wantFields := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range gotFields.NumField() {
		g, w := gotFields.Field(i).Interface(), wantFields.Field(i).Interface()
		if !reflect.DeepEqual(g, w) {
			t.Errorf("%s = %v, the proxy's default is %v", gotFields.Type().Field(i).Name, g, w)
		}
	}
}

func TestCacheSettings_DefaultsAgree(t *testing.T) {
	t.Parallel()
	got := cacheSettings(emptyFile(t))
	want := cache.Options{
		Driver:          []string{"redis:"},
		MaxHosts:        cache.DefaultMaxHosts,
		MaxDerivedHosts: cache.DefaultMaxDerivedHosts,
		MaxUnknownHosts: cache.DefaultMaxUnknownHosts,
		MaxBackends:     cache.DefaultMaxBackends,
		MaxCertificates: cache.DefaultMaxCertificates,
		MaxMissRate:     cache.DefaultMaxMissRate,
		MaxAge:          cache.DefaultMaxAge,
		NegativeTTL:     cache.DefaultNegativeTTL,
		TornWriteGrace:  cache.DefaultTornWriteGrace,
		DeadTTL:         cache.DefaultDeadTTL,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCacheSettings_ZeroMeansOff(t *testing.T) {
	t.Parallel()
	cfg := emptyFile(t)
	cfg.Cache = config.Cache{}
	got := cacheSettings(cfg)
	if got.MaxMissRate >= 0 || got.TornWriteGrace >= 0 || got.NegativeTTL == 0 || got.NegativeTTL > time.Microsecond {
		t.Errorf("got %+v, want no limit, no grace and next to no memory", got)
	}
}

func TestCacheSettings_SnapshotIsPassedOn(t *testing.T) {
	t.Parallel()
	cfg := emptyFile(t)
	cfg.Cache.Snapshot = "/var/lib/sluice/routes.snapshot"
	if got := cacheSettings(cfg); got.Snapshot != cfg.Cache.Snapshot {
		t.Errorf("got %q, want %q", got.Snapshot, cfg.Cache.Snapshot)
	}
}

func TestLimitByFiles(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		files, set, want int
	}{
		"from the limit": {files: 1000, want: 400},
		"set":            {files: 1000, set: 7, want: 7},
		"hardly any":     {files: 1, want: 1},
	}
	for name, tt := range tests {
		s := proxy.Config{MaxConnections: tt.set, MaxTunnels: tt.set}
		limitByFiles(&s, tt.files)
		if s.MaxConnections != tt.want || s.MaxTunnels != tt.want {
			t.Errorf("%s: %d connections and %d tunnels, want %d", name, s.MaxConnections, s.MaxTunnels, tt.want)
		}
	}
	if n := openFileLimit(); n < 64 || n > maxFiles {
		t.Errorf("openFileLimit() = %d", n)
	}
}
