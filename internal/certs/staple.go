package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"golang.org/x/crypto/ocsp"
)

// staple gives cert the answer of OCSP in a file, if there is one and it holds: a wrong one would make
// clients refuse the certificate. Nothing is ever asked for: whoever renews the file, as
// openssl ocsp -respout does, decides.
func staple(cert *tls.Certificate, path string, log *slog.Logger) {
	answer, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = checkStaple(cert, answer, time.Now())
	}
	if err != nil {
		log.Warn("OCSP answer is not stapled", "file", path, "cause", err)
		return
	}
	cert.OCSPStaple = answer
}

func checkStaple(cert *tls.Certificate, answer []byte, now time.Time) error {
	var issuer *x509.Certificate
	if len(cert.Certificate) > 1 {
		var err error
		if issuer, err = x509.ParseCertificate(cert.Certificate[1]); err != nil {
			return err
		}
	}
	parsed, err := ocsp.ParseResponseForCert(answer, cert.Leaf, issuer)
	switch {
	case err != nil:
		return err
	case parsed.Status != ocsp.Good:
		return errors.New("it does not say that the certificate is good")
	case !parsed.NextUpdate.IsZero() && now.After(parsed.NextUpdate):
		return errors.New("it is too old")
	}
	return nil
}
