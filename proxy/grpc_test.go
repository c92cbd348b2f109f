package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"sluice/internal/backendtest"
)

// testService is a gRPC application.
type testService struct {
	grpc_testing.UnimplementedTestServiceServer
	canceled chan struct{} // a call's context has ended
}

func (s *testService) EmptyCall(ctx context.Context, _ *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("x-head", strings.Join(md["x-echo"], ",")))
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trail-bin", "\x00\x01\xff", "x-for", strings.Join(md["x-forwarded-for"], ",")))
	return &grpc_testing.Empty{}, nil
}

func (s *testService) UnaryCall(ctx context.Context, q *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if q.GetResponseStatus().GetCode() != 0 {
		return nil, grpcstatus.Error(codes.Code(q.GetResponseStatus().GetCode()), q.GetResponseStatus().GetMessage())
	}
	if q.GetResponseSize() < 0 { // A call that never ends by itself.
		<-ctx.Done()
		s.canceled <- struct{}{}
		return nil, ctx.Err()
	}
	return &grpc_testing.SimpleResponse{Payload: &grpc_testing.Payload{Body: make([]byte, q.GetResponseSize())}}, nil
}

func (s *testService) StreamingOutputCall(q *grpc_testing.StreamingOutputCallRequest, to grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	for _, p := range q.GetResponseParameters() {
		if err := to.Send(&grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *testService) StreamingInputCall(from grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	n := 0
	for {
		q, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return from.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		if err != nil {
			return err
		}
		n += len(q.GetPayload().GetBody())
	}
}

func (s *testService) FullDuplexCall(both grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	for {
		q, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if s.canceled != nil {
				s.canceled <- struct{}{}
			}
			return err
		}
		if err := both.Send(&grpc_testing.StreamingOutputCallResponse{Payload: q.GetPayload()}); err != nil {
			return err
		}
	}
}

// newGRPC runs the application behind an edge and returns a client of it.
func newGRPC(t *testing.T, s *testService, change ...func(*setup)) (*edge, grpc_testing.TestServiceClient) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(app, s)
	go func() { _ = app.Serve(ln) }()
	t.Cleanup(app.Stop)
	e, cert := newMultiEdge(t, one("a.example", "h2c://"+ln.Addr().String()), change...)
	conn, err := grpc.NewClient("passthrough:///a.example",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: cert.Roots, ServerName: "a.example"})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", e.addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return e, grpc_testing.NewTestServiceClient(conn)
}

func payload(n int) *grpc_testing.Payload {
	return &grpc_testing.Payload{Body: bytes.Repeat([]byte("p"), n)}
}

// Unary calls: bodies of any size, fields and trailers in both directions, errors that are trailers only.
func TestGRPC_Unary(t *testing.T) {
	t.Parallel()
	e, c := newGRPC(t, &testService{})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-echo", "1", "x-echo", "2")
	var head, trailer metadata.MD
	if _, err := c.EmptyCall(ctx, &grpc_testing.Empty{}, grpc.Header(&head), grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(head["x-head"], trailer["x-trail-bin"], trailer["x-for"]) != fmt.Sprint([]string{"1,2"}, []string{"\x00\x01\xff"}, []string{"127.0.0.1"}) {
		t.Errorf("head %v, trailer %v", head, trailer)
	}
	for _, size := range []int{0, 1, 5000, 300000, 3 << 20} {
		a, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseSize: int32(size), Payload: payload(size)})
		if err != nil || len(a.GetPayload().GetBody()) != size {
			t.Errorf("size %d: got %d, %v", size, len(a.GetPayload().GetBody()), err)
		}
	}
	message := "no such thing: \t ☺"
	_, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{
		ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.NotFound), Message: message},
	})
	if s := grpcstatus.Convert(err); s.Code() != codes.NotFound || s.Message() != message {
		t.Errorf("status %v", s)
	}
	if _, err = c.UnimplementedCall(ctx, &grpc_testing.Empty{}); grpcstatus.Code(err) != codes.Unimplemented {
		t.Errorf("unimplemented: %v", err)
	}
	if line := e.awaitLog(8)[0]; !strings.Contains(line, "HTTP/2.0") || !strings.Contains(line, " 200 ") {
		t.Errorf("log line %q", line)
	}
	e.awaitMetric(`sluice_requests_total{status="2xx"}`, 8)
}

// Streams in each direction, and both at once, message by message.
func TestGRPC_Streams(t *testing.T) {
	t.Parallel()
	// Neither limit may end a conversation that goes slowly.
	_, c := newGRPC(t, &testService{}, func(s *setup) {
		s.BodyIdleTimeout, s.BackendBodyIdleTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	sizes := []int32{1, 100000, 0, 31415}
	q := &grpc_testing.StreamingOutputCallRequest{}
	for _, n := range sizes {
		q.ResponseParameters = append(q.ResponseParameters, &grpc_testing.ResponseParameters{Size: n})
	}
	down, err := c.StreamingOutputCall(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range sizes {
		if a, err := down.Recv(); err != nil || len(a.GetPayload().GetBody()) != int(n) {
			t.Fatalf("message of %d bytes: %v", n, err)
		}
	}
	if _, err := down.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
	up, err := c.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if err := up.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload(20000)}); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := up.CloseAndRecv(); err != nil || a.GetAggregatedPayloadSize() != 50*20000 {
		t.Errorf("sum %d, %v", a.GetAggregatedPayloadSize(), err)
	}
	both, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if i%5 == 0 {
			time.Sleep(500 * time.Millisecond) // Silence from both sides.
		}
		if err := both.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(i)}); err != nil {
			t.Fatal(err)
		}
		if a, err := both.Recv(); err != nil || len(a.GetPayload().GetBody()) != i {
			t.Fatalf("turn %d: %v", i, err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
}

// A deadline or a cancellation of the client reaches the application within 100 ms, with five-fold slack.
func TestGRPC_Cancellation(t *testing.T) {
	t.Parallel()
	s := &testService{canceled: make(chan struct{}, 4)}
	e, c := newGRPC(t, s)
	wantCanceled := func(what string) {
		t.Helper()
		select {
		case <-s.canceled:
		case <-time.After(500 * time.Millisecond):
			t.Errorf("%s: the application was not told", what)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseSize: -1}); grpcstatus.Code(err) != codes.DeadlineExceeded {
		t.Errorf("deadline: %v", err)
	}
	wantCanceled("deadline")
	ctx, cancel = context.WithCancel(t.Context())
	both, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	wantCanceled("cancellation")
	e.awaitMetric("sluice_streams", 0)
	e.awaitInFlight(0)
}

// A gRPC application that is not there is a backend like any other: marked, passed over, answered with a cause.
func TestGRPC_BackendFailures(t *testing.T) {
	t.Parallel()
	e, cert := newMultiEdge(t, routeList{
		"a.example": {"gone", "h2c://" + backendtest.Refused(t)},
		"b.example": {"old", strings.Replace(backendtest.Echo(t, "h1").URL(), "http", "h2c", 1)},
	}, func(s *setup) { s.RetryOnError = 1 })
	for _, v := range versions {
		c := v.visit(t, e, cert)
		wantStatus(t, c.do("POST", "/", "a.example"), 502, "retries_used_up")
		wantStatus(t, c.do("POST", "/", "b.example"), 502, "backend_reset")
	}
}

// What says that it is gRPC may be silent within its request only where the backend speaks HTTP/2: to others it is an
// upload like any other, which must not hold a connection for as long as the client likes.
func TestGRPC_SilentUpload(t *testing.T) {
	t.Parallel()
	const idle = 300 * time.Millisecond
	h1 := backendtest.Echo(t, "h1").URL()
	h2c := newH2CBackend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }).URL
	for _, tt := range []struct {
		backend, kind string
		want          int
	}{
		{h1, "application/grpc", 408},
		{h2c, "application/grpc", 200},
		{h2c, "application/grpc+proto", 200},
		{h2c, "application/grpc;x=y", 200},
		{h2c, "application/grpc-web", 408},
		{h2c, "application/grpcs", 408},
		{h2c, "text/plain", 408},
	} {
		for _, v := range versions[1:] {
			t.Run(v.name+" "+tt.backend[:3]+" "+tt.kind, func(t *testing.T) {
				t.Parallel()
				e, cert := newMultiEdge(t, one("a.example", tt.backend), func(s *setup) {
					s.BodyIdleTimeout, s.ResponseTimeout = idle, idle
				})
				c := v.visit(t, e, cert)
				r, w := io.Pipe()
				end := time.AfterFunc(3*idle, func() { _ = w.Close() })
				defer end.Stop()
				a := c.send(c.request("POST", "/", "a.example", r, "Content-Type: "+tt.kind))
				if a.StatusCode != tt.want {
					t.Errorf("status %d, want %d", a.StatusCode, tt.want)
				}
				_ = w.Close()
			})
		}
	}
}
