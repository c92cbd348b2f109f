package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sluice/cache"
	"sluice/internal/certs"
	"sluice/internal/config"
	"sluice/internal/pages"
)

// dryRun checks the configuration and everything that it names, prints it and starts nothing. With
// --connect it looks at the store, too.
func dryRun(ctx context.Context, opts config.LoadOptions, flags config.Flags, stdout, stderr io.Writer) int {
	opts.Strict = true
	cfg, warnings, err := config.Load(opts)
	printWarnings(stderr, warnings)
	if err != nil {
		return configError(stderr, err)
	}
	if mistakes := checkFiles(cfg, stderr); len(mistakes) > 0 {
		return configError(stderr, mistakes)
	}
	switch {
	case flags.Connect:
		return inspectStore(ctx, cfg, flags.Dry, stdout, stderr)
	case flags.Dry == "json":
		return exitStatus(stderr, cfg.WriteJSON(stdout))
	default:
		return exitStatus(stderr, cfg.WriteText(stdout))
	}
}

// checkFiles opens what the configuration names and a start would open, so that a missing
// certificate or a slip in the routes is found here and not at three in the morning.
func checkFiles(cfg *config.Config, stderr io.Writer) config.Mistakes {
	var mistakes config.Mistakes
	check := func(path string, err error) {
		if err != nil {
			mistakes = append(mistakes, config.Mistake{Path: path, Rule: err.Error(), Origin: cfg.Origin(path)})
		}
	}
	log := newLogger(cfg, stderr)
	for _, b := range cfg.HTTPS.Bind {
		_, err := certs.Load(certOptions(cfg, b, log))
		if err != nil {
			err = fmt.Errorf("https on %s: %w", b.HostPort(), err)
		}
		check("https.bind", err)
	}
	_, err := pages.New(pages.Options{StaticDir: cfg.Server.StaticDir})
	check("server.staticDir", err)
	if cfg.TLS.Directory != "" {
		_, err := os.ReadDir(cfg.TLS.Directory)
		check("tls.directory", err)
	}
	if err := cache.CheckPolicy(map[string]string{"hsts": cfg.Policy.HSTS}); err != nil {
		check("policy.hsts", err)
	} else {
		_, err = cache.New(cacheSettings(cfg))
		check("driver", err)
	}
	settings, err := proxySettings(cfg)
	check("server.backendCA", err)
	if err == nil {
		check("server", settings.Validate())
	}
	if cfg.ACME.OnDemand {
		_, err := issuerSettings(cfg)
		check("acme.ca", err)
	}
	for _, driver := range cfg.Driver {
		check("driver", cache.CheckFile(driver, log.Logger))
	}
	_, err = findIdentity(cfg, log.Logger)
	check("user", errors.Unwrap(err))
	return mistakes
}
