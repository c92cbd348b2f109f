package main

import (
	"context"
	"fmt"
	"os"
	"text/template"
)

// haproxyTemplate is HAProxy as a proxy: connections to the backend shared by all clients, the
// usual forwarding fields, names through a map where there are many. A connection without a request
// is neither logged nor answered, as with the others. The shares of descriptors are those above which
// it keeps no idle connections to the backend: by default a quarter, which many idle clients exceed.
var haproxyTemplate = template.Must(template.New("haproxy").Parse(`
global
  nbthread {{.Threads}}
  maxconn {{.MaxConn}}
  tune.pool-high-fd-ratio 90
  tune.pool-low-fd-ratio 80
  ssl-default-bind-options ssl-min-ver TLSv1.2
{{- if .Log}}
  log stdout format raw local0 info
{{- end}}
defaults
  mode http
  timeout client 300s
  timeout server 300s
  timeout connect 5s
  timeout http-keep-alive 300s
  timeout tunnel 300s
  http-reuse always
  option forwardfor
  option http-ignore-probes
{{- if .Log}}
  log global
  option httplog
{{- end}}
frontend edge
  bind 127.0.0.1:{{.Port}}{{if .TLS}} ssl crt {{.PEM}}{{if .HTTP2}} alpn h2{{end}}{{end}} backlog 4096
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Proto {{if .TLS}}https{{else}}http{{end}}
  http-request set-header X-Forwarded-Port %[dst_port]
{{- if .Map}}
  use_backend %[req.hdr(host),map_str({{.Map}})]
{{- else}}
  default_backend pool
{{- end}}
backend pool
  server one 127.0.0.1:{{.Backend}}
`))

// haproxyMaker starts HAProxy with one thread per core.
func haproxyMaker(logs bool) maker {
	return func(ctx context.Context, s *site, w work, _ *options, name string) (*contestant, error) {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		c := &contestant{name: name, url: proxyURL(w, port)}
		hostMap := ""
		if w.hosts > 1 {
			hostMap = s.fileOf(name, ".map")
			if err := writeHostMap(hostMap, w.hosts, "pool"); err != nil {
				return nil, err
			}
		}
		config := s.fileOf(name, ".conf")
		err = writeTemplate(config, haproxyTemplate, map[string]any{
			"Threads": proxyWorkers(), "Log": logs, "Map": hostMap, "Port": port,
			"MaxConn": idleConnections(idleWanted) + spareConnections/2, "Backend": s.backendPort(w),
			"TLS": w.encrypted(), "HTTP2": w.http2, "PEM": s.pemFile,
		})
		if err != nil {
			return nil, err
		}
		if c.proc, err = startHAProxy(c, s, config, logs); err != nil {
			return nil, err
		}
		return c.await(ctx, w)
	}
}

// startHAProxy starts HAProxy in the foreground; its log goes to a file by way of its output.
func startHAProxy(c *contestant, s *site, config string, logs bool) (*process, error) {
	path, err := lookTool("haproxy")
	if err != nil {
		return nil, err
	}
	if !logs {
		return startProcess(c.name, nil, nil, path, "-db", "-f", config)
	}
	c.logFile = s.fileOf(c.name, ".log")
	out, err := os.OpenFile(c.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", c.name, err)
	}
	defer out.Close() // HAProxy has its own descriptor.
	return startProcess(c.name, nil, out, path, "-db", "-f", config)
}
