// Package policy holds no code: its tests keep the rules of this repository that the compiler does
// not know, each with its reason in the failure text. They read the source; nothing calls them but
// go test.
package policy
