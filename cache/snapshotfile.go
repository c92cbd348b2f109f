package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
)

// A snapshot file is a header of fixed size and a body of records, numbers in little-endian order:
//
//	magic 8, version 4, store 16, time made 8 (unix nanoseconds), records 8, body bytes 8,
//	CRC-32C of the body 4, CRC-32C of the header so far 4
//
// A record is a kind, a name, and what the name resolves to. Lengths and numbers in it are uvarints.
//
//	recordList:        name, time of expiry (unix milliseconds, 0 = never), number of elements,
//	                   their lengths, their bytes
//	recordDerived:     name, name of the wildcard
//	recordPolicy:      name, time of expiry, number of fields, their names and texts in turn
//	recordIssuer:      DER of a certificate that signed others, in the place of a name
//	recordCertificate: name, time of expiry, number of issuers, which of the recordIssuers they are,
//	                   counted from 0; DER of the certificate, its key in PKCS #8
//
// A policy stands before the names that it is for, and an issuer before what it signed. Version 1 had
// the first two kinds.
const (
	snapshotMagic       = "SLUICERT"
	snapshotVersion     = 2
	snapshotHeaderBytes = 60

	recordList        = 1
	recordDerived     = 2
	recordPolicy      = 3
	recordIssuer      = 4
	recordCertificate = 5
)

var (
	// errForeignFile: not a snapshot, and so never to be overwritten.
	errForeignFile  = errors.New("not a snapshot of sluice: move it away or name another file")
	errBadRecord    = errors.New("a record is malformed")
	errBadHeaderSum = errors.New("the checksum of the header is wrong")
	errBadBodySum   = errors.New("the checksum of its content is wrong")
	errForeignStore = errors.New("it was made from another store than \"driver\" names")
	castagnoli      = crc32.MakeTable(crc32.Castagnoli)
	littleEndian    = binary.LittleEndian
)

// storeID names a store in its snapshots.
type storeID [16]byte

// identifyStore hashes what Options.Driver says, without user names and passwords, which change
// while the store stays the same.
func identifyStore(drivers []string) storeID {
	h := sha256.New()
	for _, d := range drivers {
		if scheme, rest, ok := strings.Cut(d, "://"); ok {
			authority := rest
			if i := strings.IndexAny(rest, "/?#"); i >= 0 {
				authority = rest[:i]
			}
			d = scheme + "://" + rest[strings.LastIndexByte(authority, '@')+1:]
		}
		h.Write([]byte(d + "\n"))
	}
	return storeID(h.Sum(nil))
}

// snapshotHeader is what a snapshot file says about itself.
type snapshotHeader struct {
	store   storeID
	made    int64 // unix nanoseconds
	records uint64
	bytes   uint64 // of the body
	sum     uint32 // of the body
}

func (h *snapshotHeader) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, snapshotMagic...)
	dst = littleEndian.AppendUint32(dst, snapshotVersion)
	dst = append(dst, h.store[:]...)
	dst = littleEndian.AppendUint64(dst, uint64(h.made))
	dst = littleEndian.AppendUint64(dst, h.records)
	dst = littleEndian.AppendUint64(dst, h.bytes)
	dst = littleEndian.AppendUint32(dst, h.sum)
	return littleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// parseSnapshot checks a whole file and returns its header and body. Nothing of a file that is not
// right in every byte may be used.
func parseSnapshot(data []byte, store storeID) (h snapshotHeader, body []byte, err error) {
	if n := min(len(data), len(snapshotMagic)); string(data[:n]) != snapshotMagic[:n] {
		return h, nil, errForeignFile
	}
	if len(data) < snapshotHeaderBytes {
		return h, nil, fmt.Errorf("it ends after %d bytes, in the header", len(data))
	}
	head, body := data[:snapshotHeaderBytes], data[snapshotHeaderBytes:]
	rest := head[len(snapshotMagic):]
	if version := littleEndian.Uint32(rest); version < 1 || version > snapshotVersion {
		return h, nil, fmt.Errorf("it has format %d, and this program reads formats 1 to %d: "+
			"start the program that wrote it, or one that is newer", version, snapshotVersion)
	}
	copy(h.store[:], rest[4:])
	h.made = int64(littleEndian.Uint64(rest[20:]))
	h.records = littleEndian.Uint64(rest[28:])
	h.bytes = littleEndian.Uint64(rest[36:])
	h.sum = littleEndian.Uint32(rest[44:])
	switch {
	case littleEndian.Uint32(rest[48:]) != crc32.Checksum(head[:snapshotHeaderBytes-4], castagnoli):
		return h, nil, errBadHeaderSum
	case h.bytes != uint64(len(body)):
		return h, nil, fmt.Errorf("it holds %d bytes behind its header and should hold %d", len(body), h.bytes)
	case h.sum != crc32.Checksum(body, castagnoli):
		return h, nil, errBadBodySum
	case h.store != store:
		return h, nil, errForeignStore
	}
	return h, body, checkRecords(body, h.records)
}

// checkRecords sees that all records can be read, before the first is used.
func checkRecords(body []byte, want uint64) error {
	var r record
	issuers := 0
	for n := uint64(0); ; n++ {
		if len(body) == 0 {
			if n != want {
				return fmt.Errorf("it holds %d records and should hold %d", n, want)
			}
			return nil
		}
		var err error
		if body, err = r.parse(body); err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		switch r.kind {
		case recordIssuer:
			issuers++
		case recordCertificate:
			if slices.ContainsFunc(r.lengths, func(i int) bool { return i >= issuers }) {
				return fmt.Errorf("record %d: %w", n, errBadRecord)
			}
		}
	}
}

// record is one entry of a snapshot. Its slices belong to the file's bytes and to the next parse.
type record struct {
	kind    byte
	name    []byte            // recordIssuer: the certificate
	target  []byte            // recordDerived
	expires int64             // unix milliseconds, 0 = never
	text    []byte            // recordList: the elements, joined; recordCertificate: the certificate
	lengths []int             // recordList: of the elements; recordCertificate: which issuers
	fields  map[string]string // recordPolicy
	key     []byte            // recordCertificate
}

// parse reads the record that data begins with and returns what follows it.
func (r *record) parse(data []byte) (rest []byte, err error) {
	p := recordParser{data: data}
	r.kind = p.byte()
	r.name = p.bytes()
	switch r.kind {
	case recordDerived:
		r.target = p.bytes()
		p.failed = p.failed || len(r.target) == 0
	case recordList:
		r.expires = p.time()
		r.parseList(&p)
	case recordPolicy:
		r.expires = p.time()
		r.fields, _ = p.fields()
	case recordIssuer:
	case recordCertificate:
		r.expires = p.time()
		r.lengths = r.lengths[:0]
		for n := p.number(); n > 0 && !p.failed; n-- {
			issuer := p.number()
			p.failed = p.failed || issuer > maxSnapshotBytes
			r.lengths = append(r.lengths, int(issuer))
		}
		r.text, r.key = p.bytes(), p.bytes()
		p.failed = p.failed || len(r.text) == 0 || len(r.key) == 0
	default:
		p.failed = true
	}
	if p.failed || len(r.name) == 0 {
		return nil, errBadRecord
	}
	return p.data, nil
}

func (r *record) parseList(p *recordParser) {
	total := 0
	r.lengths = r.lengths[:0]
	for n := p.number(); n > 0 && !p.failed; n-- {
		length := p.number()
		// Also keeps the sum from overflowing.
		p.failed = p.failed || length > uint64(len(p.data)-total)
		total += int(length)
		r.lengths = append(r.lengths, int(length))
	}
	r.text = p.take(total)
	p.failed = p.failed || len(r.lengths) == 0
}

// elements returns the list, all elements in one piece of memory, in a slice that takes the place
// of dst.
func (r *record) elements(dst []string) []string {
	dst = dst[:0]
	text := string(r.text)
	for _, n := range r.lengths {
		dst = append(dst, text[:n])
		text = text[n:]
	}
	return dst
}

// recordParser takes a record apart. After a failure everything it returns is zero.
type recordParser struct {
	data   []byte
	failed bool
}

func (p *recordParser) byte() byte {
	if b := p.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (p *recordParser) number() uint64 {
	v, n := binary.Uvarint(p.data)
	if n <= 0 || p.failed {
		p.failed = true
		return 0
	}
	p.data = p.data[n:]
	return v
}

// time reads a time of expiry in unix milliseconds.
func (p *recordParser) time() int64 {
	at := int64(p.number())
	p.failed = p.failed || at < 0
	return at
}

func (p *recordParser) bytes() []byte {
	n := p.number()
	if n > uint64(len(p.data)) {
		p.failed = true
		return nil
	}
	return p.take(int(n))
}

func (p *recordParser) take(n int) []byte {
	if p.failed || n > len(p.data) {
		p.failed = true
		return nil
	}
	b := p.data[:n]
	p.data = p.data[n:]
	return b
}

// appendList appends the record of a name with a list; expires is in unix milliseconds, 0 = never.
func appendList(dst []byte, name string, f *Frontend, expires uint64) []byte {
	dst = appendText(append(dst, recordList), name)
	dst = binary.AppendUvarint(dst, expires)
	dst = binary.AppendUvarint(dst, uint64(len(f.Backends)+1))
	dst = binary.AppendUvarint(dst, uint64(len(f.VHost)))
	for i := range f.Backends {
		dst = binary.AppendUvarint(dst, uint64(len(f.Backends[i].URL)))
	}
	dst = append(dst, f.VHost...)
	for i := range f.Backends {
		dst = append(dst, f.Backends[i].URL...)
	}
	return dst
}

// appendDerived appends the record of a name that a wildcard answers for.
func appendDerived(dst []byte, name, target string) []byte {
	return appendText(appendText(append(dst, recordDerived), name), target)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// isSnapshot tells whether a file that begins with head may be replaced by a snapshot.
func isSnapshot(head []byte) bool {
	n := min(len(head), len(snapshotMagic))
	return bytes.Equal(head[:n], []byte(snapshotMagic[:n]))
}
