package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"sluice/cache"
	"sluice/internal/config"
)

// inspectTimeout bounds what --connect does, the reading of a large store included.
const inspectTimeout = 30 * time.Second

// inspectStore prints the configuration and what the store says about itself.
func inspectStore(ctx context.Context, cfg *config.Config, format string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	found, failure := cache.Inspect(ctx, cacheSettings(cfg))
	if found == nil {
		found = &cache.Inspection{}
	}
	write := writeInspection
	if format == "json" {
		write = writeInspectionJSON
	}
	if err := write(stdout, cfg, found); err != nil {
		return exitStatus(stderr, err)
	}
	return exitStatus(stderr, failure)
}

// writeInspection prints one line for each server, certificate and policy, and each entry that cannot be used.
func writeInspection(w io.Writer, cfg *config.Config, found *cache.Inspection) error {
	if err := cfg.WriteText(w); err != nil {
		return err
	}
	var b bytes.Buffer
	for _, s := range found.Servers {
		fmt.Fprintf(&b, "store %s: %s %s, %s, %s, tier %s, round trip %v\n",
			s.Address, s.Kind, orUnknown(s.Version), orUnknown(s.Role), s.Purpose, s.Tier, s.RoundTrip.Round(time.Microsecond))
		if s.Refusal != "" {
			fmt.Fprintf(&b, "store %s: refused to push all changes: %s\n", s.Address, s.Refusal)
		}
	}
	fmt.Fprintf(&b, "frontends sampled: %d, certificates: %d, policies: %d, entries that cannot be used: %d\n",
		found.Frontends, found.CertificateCount, found.PolicyCount, len(found.Unusable))
	if found.Note != "" {
		fmt.Fprintf(&b, "note: %s\n", found.Note)
	}
	for _, k := range found.Certificates {
		fmt.Fprintf(&b, "certificate %q: %q, valid from %s to %s, by %q\n", k.Key, k.Names,
			k.NotBefore.Format(time.RFC3339), k.NotAfter.Format(time.RFC3339), k.Issuer)
	}
	for _, p := range found.Policies {
		fmt.Fprintf(&b, "policy %q:", p.Key)
		for _, name := range slices.Sorted(maps.Keys(p.Fields)) {
			fmt.Fprintf(&b, " %s %q", name, p.Fields[name])
		}
		b.WriteByte('\n')
	}
	for _, e := range found.Unusable {
		fmt.Fprintf(&b, "unusable: %q", e.Key)
		if e.Element != "" {
			fmt.Fprintf(&b, ", element %q", e.Element)
		}
		fmt.Fprintf(&b, ": %s\n", e.Cause)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// writeInspectionJSON prints one object with the configuration and the store.
func writeInspectionJSON(w io.Writer, cfg *config.Config, found *cache.Inspection) error {
	var configuration bytes.Buffer
	if err := cfg.WriteJSON(&configuration); err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Configuration json.RawMessage   `json:"configuration"`
		Store         *cache.Inspection `json:"store"`
	}{configuration.Bytes(), found})
}
