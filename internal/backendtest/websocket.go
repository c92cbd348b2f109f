package backendtest

import (
	"context"
	"net/http"

	"github.com/coder/websocket"
)

// maxMessageBytes bounds a WebSocket message that WebSocketEcho takes.
const maxMessageBytes = 16 << 20

// WebSocketEcho accepts any WebSocket handshake, taking the first subprotocol offered, and sends
// every message back until the client closes.
func WebSocketEcho() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			InsecureSkipVerify: true, // Behind a proxy Origin and Host may differ.
			Subprotocols:       websocketProtocols(r),
		})
		if err != nil {
			return // Accept has answered.
		}
		defer c.CloseNow()
		c.SetReadLimit(maxMessageBytes)
		// A hijacked connection no longer ends its request's context; it is closed by the peer or
		// by the end of the backend.
		ctx := context.WithoutCancel(r.Context())
		for {
			kind, message, err := c.Read(ctx)
			if err != nil {
				return
			}
			if err := c.Write(ctx, kind, message); err != nil {
				return
			}
		}
	})
}

func websocketProtocols(r *http.Request) []string {
	if p := r.Header.Get("Sec-WebSocket-Protocol"); p != "" {
		return []string{p}
	}
	return nil
}
