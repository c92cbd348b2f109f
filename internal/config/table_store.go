package config

// storeKeys: where routes come from.
var storeKeys = []Key{
	{
		Path: "driver", Default: "redis:", Bare: "file:routes.json", Hipache: true, Rule: storeURL,
		Doc: "Store of the routes: redis://[:password@][host][:port][/db][#prefix], rediss:, " +
			"redis+sentinel://host,host/master, redis+cluster://host,host, unix:, file:name.json; " +
			"or two of them, a read replica and the write master.",
		field: func(c *Config) any { return (*urlList)(&c.Driver) },
	},
}

// storeURL is only the shape; whoever opens stores checks the rest through LoadOptions.CheckDriver.
var storeURL = eachString("a URL such as redis://127.0.0.1:6379 or file:routes.json", func(s string) bool {
	return s != "" && isPrintable(s)
})

// cacheKeys: how many routes are kept in memory, and for how long.
var cacheKeys = []Key{
	{
		Path: "cache.maxHosts", Default: "1000000", Rule: between(1, 1<<30),
		Doc:   "Frontends kept in memory.",
		field: func(c *Config) any { return &c.Cache.MaxHosts },
	},
	{
		Path: "cache.maxDerivedHosts", Default: "250000", Rule: between(1, 1<<30),
		Doc:   "Names kept that resolve through a wildcard or the catch-all.",
		field: func(c *Config) any { return &c.Cache.MaxDerivedHosts },
	},
	{
		Path: "cache.maxUnknownHosts", Default: "100000", Rule: between(1, 1<<30),
		Doc:   "Names kept that resolve to nothing.",
		field: func(c *Config) any { return &c.Cache.MaxUnknownHosts },
	},
	{
		Path: "cache.maxBackends", Default: "1024", Rule: between(1, 65536),
		Doc:   "Backends read of one frontend; a longer list is cut and logged.",
		field: func(c *Config) any { return &c.Cache.MaxBackends },
	},
	{
		Path: "cache.maxAge", Unit: "s", Default: "600", Rule: between(1, longest),
		Doc:   "Age at which a route is read again in the background, with jitter.",
		field: func(c *Config) any { return &c.Cache.MaxAge },
	},
	{
		Path: "cache.negativeTTL", Unit: "s", Default: "5", Rule: anySeconds,
		Doc:   "How long the absence of a name is remembered; 0 remembers nothing.",
		field: func(c *Config) any { return &c.Cache.NegativeTTL },
	},
	{
		Path: "cache.maxMissRate", Unit: "per second", Default: "2000", Rule: anyCount,
		Doc:   "Lookups of unknown names sent to the store; 0 sets no limit.",
		field: func(c *Config) any { return &c.Cache.MaxMissRate },
	},
	{
		Path: "cache.maxStale", Unit: "s", Default: "0", Rule: anySeconds,
		Doc:   "How long routes serve while the store is away; 0 sets no limit.",
		field: func(c *Config) any { return &c.Cache.MaxStale },
	},
	{
		Path: "cache.tornWriteGrace", Unit: "s", Default: "0.2", Rule: between(0, 10),
		Doc:   "How long a list that was just emptied still serves, since writers are not atomic; 0 switches it off.",
		field: func(c *Config) any { return &c.Cache.TornWriteGrace },
	},
	{
		Path: "cache.snapshot", Default: "", Rule: fileName,
		Doc:   "File to keep routes and policies in, so that a start without the store knows them; empty means none.",
		field: func(c *Config) any { return &c.Cache.Snapshot },
	},
	{
		Path: "cache.snapshotKeys", Default: "false",
		Doc:   "Keep the certificates in use and their keys there, too; the file must then have mode 0600.",
		field: func(c *Config) any { return &c.Cache.SnapshotKeys },
	},
}

// processKeys: whose rights the process has.
var processKeys = []Key{
	{
		Path: "user", Default: "www-data", Hipache: true, Rule: printable,
		Doc:   "User, by name or id, to become after binding when started as root; \"root\" stays root.",
		field: func(c *Config) any { return &c.User },
	},
	{
		Path: "group", Default: "", Hipache: true, Rule: printable,
		Doc:   "Group, by name or id, to become with user. Empty: the user's own group.",
		field: func(c *Config) any { return &c.Group },
	},
}
