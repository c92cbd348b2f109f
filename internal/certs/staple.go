package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

// stapled is a certificate of files, with an answer of OCSP if there is one.
type stapled struct {
	*tls.Certificate
	until time.Time // the answer's end; zero: never, or there is no answer
	path  string
	log   *slog.Logger

	ended sync.Once
	bare  *tls.Certificate // without the answer; ended is about it
}

// staple gives cert the answer of OCSP in a file, if there is one and it holds: a wrong one would make
// clients refuse the certificate. Nothing is ever asked for: whoever renews the file, as
// openssl ocsp -respout does, decides.
func staple(cert *tls.Certificate, path string, log *slog.Logger) *stapled {
	s := &stapled{Certificate: cert, path: path, log: log}
	answer, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	var until time.Time
	if err == nil {
		until, err = checkStaple(cert, answer, time.Now())
	}
	if err != nil {
		log.Warn("OCSP answer is not stapled", "file", path, "cause", err)
		return s
	}
	cert.OCSPStaple, s.until = answer, until
	return s
}

// at returns what is served at a time, nil for nil: once the answer has ended, the certificate alone,
// as clients would refuse both together.
func (s *stapled) at(now time.Time) *tls.Certificate {
	if s == nil {
		return nil
	}
	if s.until.IsZero() || !now.After(s.until) {
		return s.Certificate
	}
	s.ended.Do(func() {
		bare := *s.Certificate
		bare.OCSPStaple = nil
		s.bare = &bare
		s.log.Warn("OCSP answer has ended and is stapled no more; renew it", "file", s.path, "ended", s.until)
	})
	return s.bare
}

// checkStaple reports an answer that must not be sent with cert, and returns when one that may ends;
// the zero time is never.
func checkStaple(cert *tls.Certificate, answer []byte, now time.Time) (until time.Time, err error) {
	var issuer *x509.Certificate
	if len(cert.Certificate) > 1 {
		if issuer, err = x509.ParseCertificate(cert.Certificate[1]); err != nil {
			return until, err
		}
	}
	parsed, err := ocsp.ParseResponseForCert(answer, cert.Leaf, issuer)
	switch {
	case err != nil:
		return until, err
	case parsed.Status != ocsp.Good:
		return until, errors.New("it does not say that the certificate is good")
	case !parsed.NextUpdate.IsZero() && now.After(parsed.NextUpdate):
		return until, errors.New("it is too old")
	}
	return parsed.NextUpdate, nil
}
