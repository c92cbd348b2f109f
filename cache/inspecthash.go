package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/internal/certs"
)

// maxListed bounds the certificates, and the policies, that an Inspection lists.
const maxListed = 1000

// InspectedCertificate is a certificate of the store that can be used. It holds nothing of its key.
type InspectedCertificate struct {
	Key       string    `json:"key"` // in the store: "tls:www.example.com"
	Names     []string  `json:"names"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Issuer    string    `json:"issuer"`
}

// InspectedPolicy is a policy of the store.
type InspectedPolicy struct {
	Key    string            `json:"key"`
	Fields map[string]string `json:"fields"` // those that count
}

// familyNouns name the families in notes.
var familyNouns = [families]string{"certificates", "policies"}

// sampleHashes reads the hashes of a family.
func (i *inspector) sampleHashes(ctx context.Context, l *link, f family) error {
	prefix := i.watcher.prefix + familyKeys[f]
	refused := false
	return i.sample(ctx, l, prefix, familyNouns[f], func(keys []string) error {
		if refused {
			return nil
		}
		pairs := make([]pair, len(keys))
		for n, key := range keys {
			pairs[n] = i.watcher.hashPair(l, f, strings.TrimPrefix(key, prefix))
		}
		for n, replies := range l.ask(ctx, pairs...) {
			r, err := parseHash(replies)
			switch {
			case isForbidden(err):
				i.note(fmt.Sprintf("%s cannot be read: %v; docs/redis.md lists the rights", familyNouns[f], err))
				refused = true
				return nil
			case isReply(err):
				i.unusable(keys[n], "", err.Error())
			case err != nil:
				return fmt.Errorf("read %s from %s: %w", keys[n], l.address, err)
			default:
				i.hash(f, strings.TrimPrefix(keys[n], prefix), &r)
			}
		}
		return nil
	})
}

// hash judges one hash.
func (i *inspector) hash(f family, name string, r *hashReading) {
	key := i.watcher.prefix + familyKeys[f] + name
	switch {
	case r.broken != nil:
		i.unusable(key, "", r.broken.Error()+"; it must be a hash, as HSET makes it")
	case r.fields == nil: // It has gone meanwhile.
	case f == certificateFamily:
		i.found.CertificateCount++
		i.certificate(key, name, r.fields)
	default:
		i.found.PolicyCount++
		i.policy(key, name, r.fields)
	}
}

func (i *inspector) certificate(key, name string, fields map[string]string) {
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if !isCertificateField(field) {
			i.unusable(key, "", unknownField(field).Error()+"; the fields are certificate and key")
		}
	}
	if cause := unusableServerName(name); cause != "" {
		i.unusable(key, "", cause)
	}
	cert, err := certs.Parse([]byte(fields[certificateField]), []byte(fields[keyField]))
	if err != nil {
		i.unusable(key, "", err.Error()+wayOut(err))
		return
	}
	if err := certs.Covers(cert, name); err != nil {
		i.unusable(key, "", err.Error()+"; store it under a name that it holds, or have one made for this name")
		return
	}
	if err := certs.CheckDates(cert.Leaf, time.Now()); err != nil {
		i.unusable(key, "", err.Error())
		return
	}
	if len(i.found.Certificates) == maxListed {
		i.note(fmt.Sprintf("only %d certificates are listed", maxListed))
		return
	}
	i.found.Certificates = append(i.found.Certificates, describeCertificate(key, cert))
}

func describeCertificate(key string, cert *tls.Certificate) InspectedCertificate {
	names := append([]string{}, cert.Leaf.DNSNames...)
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return InspectedCertificate{
		Key: key, Names: names, NotBefore: cert.Leaf.NotBefore.UTC(), NotAfter: cert.Leaf.NotAfter.UTC(),
		Issuer: cert.Leaf.Issuer.String(),
	}
}

// wayOut says what to do about a certificate that cannot be parsed, where the error does not.
func wayOut(err error) string {
	if errors.Is(err, certs.ErrMismatch) {
		return "; store both fields with one HSET, the key that the certificate was made for"
	}
	return "; store both fields with one HSET, as docs/tls.md shows"
}

// unusableServerName tells why no handshake can ever lead to a name; "" if one can.
func unusableServerName(name string) string {
	host := strings.TrimPrefix(name, "*.")
	switch {
	case isServerName(host) && !strings.HasSuffix(host, "."):
		return ""
	case isServerName(strings.ToLower(strings.TrimSuffix(host, "."))):
		return "handshakes look for " + strings.TrimSuffix(name, host) + strings.ToLower(strings.TrimSuffix(host, "."))
	default:
		return `the name is not one that a client can ask for: write a host name, or "*." and one`
	}
}

func (i *inspector) policy(key, name string, fields map[string]string) {
	if cause := unusableName(name); cause != "" {
		i.unusable(key, "", cause)
	}
	counting := maps.Clone(fields)
	newPolicy(nil, fields, func(mistake error) {
		text := mistake.Error()
		var unknown unknownField
		var wrong fieldError
		switch {
		case errors.As(mistake, &unknown):
			delete(counting, string(unknown))
			text += "; the fields are " + policyKeyNames()
		case errors.As(mistake, &wrong):
			delete(counting, wrong.name)
		}
		i.unusable(key, "", text)
	})
	if len(i.found.Policies) == maxListed {
		i.note(fmt.Sprintf("only %d policies are listed", maxListed))
		return
	}
	i.found.Policies = append(i.found.Policies, InspectedPolicy{Key: key, Fields: counting})
}

func policyKeyNames() string {
	names := make([]string, len(policyKeys))
	for n, k := range policyKeys {
		names[n] = k.Name
	}
	return strings.Join(names, ", ")
}
