package certs

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/youmark/pkcs8"
)

// Causes of a key that cannot be used. The caller adds the file.
var (
	errNoKey         = errors.New("no PEM block with a private key in it; the file may hold only the certificate")
	errNoPassphrase  = errors.New("it is encrypted; set its passphrase")
	errPassphrase    = errors.New("the passphrase is wrong")
	errOldEncryption = errors.New("its encryption is not known here; convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc")
	errNotSigning    = errors.New("it is no key for signatures; use an RSA, ECDSA or Ed25519 key")
)

// readKey returns the first private key in a PEM file, decrypted.
func readKey(path, passphrase string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	key, err := parseKeyPEM(text, passphrase)
	if err != nil {
		return nil, fmt.Errorf("load key %s: %w", path, err)
	}
	return key, nil
}

// parseKeyPEM returns the first private key in PEM text, decrypted.
func parseKeyPEM(text []byte, passphrase string) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	for block != nil && !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return nil, errNoKey
	}
	key, err := decodeKey(block, passphrase)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errNotSigning
	}
	return signer, nil
}

// decodeKey reads a key in one of the three encodings and the two ways of encrypting them.
func decodeKey(block *pem.Block, passphrase string) (any, error) {
	//lint:ignore SA1019 deprecated as weak, but node reads such keys and so they are in use
	legacy := x509.IsEncryptedPEMBlock(block) //nolint:staticcheck // as above
	encrypted := legacy || block.Type == "ENCRYPTED PRIVATE KEY"
	switch {
	case encrypted && passphrase == "":
		return nil, errNoPassphrase
	case legacy:
		return decryptLegacy(block, passphrase)
	case encrypted:
		return decryptPKCS8(block.Bytes, passphrase)
	}
	return parseKey(block.Bytes)
}

// parseKey reads a key in the clear; the label of its PEM block does not matter.
func parseKey(der []byte) (any, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return nil, fmt.Errorf("it cannot be parsed: %w", err)
}

// decryptLegacy reads a key that OpenSSL encrypted within its PEM block (Proc-Type: 4,ENCRYPTED).
// There is no checksum: a wrong passphrase may show only in what comes out.
func decryptLegacy(block *pem.Block, passphrase string) (any, error) {
	//lint:ignore SA1019 deprecated as weak, but node reads such keys and so they are in use
	der, err := x509.DecryptPEMBlock(block, []byte(passphrase)) //nolint:staticcheck // as above
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, errPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOldEncryption, err)
	}
	key, err := parseKey(der)
	if err != nil {
		return nil, errPassphrase
	}
	return key, nil
}

// decryptPKCS8 reads an encrypted PKCS #8 key (RFC 5958).
func decryptPKCS8(der []byte, passphrase string) (key any, err error) {
	// The library hands a cut or forged file to a block cipher, which panics.
	defer func() {
		if r := recover(); r != nil {
			key, err = nil, fmt.Errorf("it is damaged: %v", r)
		}
	}()
	key, err = pkcs8.ParsePKCS8PrivateKey(der, []byte(passphrase))
	switch {
	case err == nil:
		return key, nil
	case strings.Contains(err.Error(), "incorrect password"):
		return nil, errPassphrase
	case strings.Contains(err.Error(), "supported"):
		return nil, fmt.Errorf("%w: %w", errOldEncryption, err)
	}
	return nil, fmt.Errorf("it cannot be decrypted, check the passphrase: %w", err)
}
