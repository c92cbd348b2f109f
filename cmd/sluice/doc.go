// Command sluice is a Redis-driven HTTP edge, a drop-in for Hipache.
//
// This package is wiring: it reads the configuration, binds the listeners, gives up root, puts the
// parts together in the order that their start and their stop need, and turns signals into
// reloads, a reopened log, a handover to a new binary and a drain. What happens to a request is in
// package proxy, where routes come from in package cache.
package main
