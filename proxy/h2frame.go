package proxy

import "encoding/binary"

// Types of frames (RFC 9113 §6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameRST          = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9
)

// Flags of frames. Two share a bit: which of them is meant depends on the type.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113 §6.5.2, RFC 8441 §3).
const (
	settingHeaderTableSize   = 0x1
	settingEnablePush        = 0x2
	settingMaxStreams        = 0x3
	settingInitialWindow     = 0x4
	settingMaxFrameSize      = 0x5
	settingMaxHeaderListSize = 0x6
	settingConnectProtocol   = 0x8
)

const (
	frameHeaderSize = 9
	settingSize     = 6
	clientPreface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	minWindow   = 65535     // what a window is before anybody changes it (RFC 9113 §6.9.2)
	maxWindow   = 1<<31 - 1 // RFC 9113 §6.9.1
	maxStreamID = 1<<31 - 1
)

// h2Code is the reason for which a stream or a connection ends (RFC 9113 §7).
type h2Code uint32

// The codes that are used.
const (
	codeNone            h2Code = 0x0
	codeProtocol        h2Code = 0x1
	codeInternal        h2Code = 0x2
	codeFlowControl     h2Code = 0x3
	codeSettingsTimeout h2Code = 0x4
	codeStreamClosed    h2Code = 0x5
	codeFrameSize       h2Code = 0x6
	codeRefused         h2Code = 0x7
	codeCancel          h2Code = 0x8
	codeCompression     h2Code = 0x9
	codeCalm            h2Code = 0xb
)

// h2Frame is a frame as it was read. payload aliases the connection's buffer.
type h2Frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// has reports whether a flag is set.
func (f *h2Frame) has(flag byte) bool { return f.flags&flag != 0 }

// frameLength returns the length of a frame's payload. b holds its header.
func frameLength(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// parseFrame splits a whole frame. The stream's reserved bit is ignored (RFC 9113 §4.1).
func parseFrame(b []byte) h2Frame {
	return h2Frame{
		kind: b[3], flags: b[4], stream: binary.BigEndian.Uint32(b[5:]) & maxStreamID,
		payload: b[frameHeaderSize : frameHeaderSize+frameLength(b)],
	}
}

// unpadded returns the payload without its padding (RFC 9113 §6.1), false if that is longer than the payload.
func (f *h2Frame) unpadded() ([]byte, bool) {
	p := f.payload
	if !f.has(flagPadded) {
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}

func appendH2Header(dst []byte, length int, kind, flags byte, stream uint32) []byte {
	dst = append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

// putFrameLength sets the length and the flags of a frame whose header begins at b.
func putFrameLength(b []byte, length int, flags byte) {
	b[0], b[1], b[2], b[4] = byte(length>>16), byte(length>>8), byte(length), flags
}

func appendRST(dst []byte, stream uint32, code h2Code) []byte {
	dst = appendH2Header(dst, 4, frameRST, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendWindowUpdate(dst []byte, stream uint32, n int32) []byte {
	dst = appendH2Header(dst, 4, frameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}

func appendGoAway(dst []byte, last uint32, code h2Code) []byte {
	dst = appendH2Header(dst, 8, frameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendPing(dst []byte, flags byte, data []byte) []byte {
	return append(appendH2Header(dst, 8, framePing, flags, 0), data...)
}

// appendSetting appends one value of a SETTINGS frame.
func appendSetting(dst []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, id), value)
}
