package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"text/template"
)

// nginxTemplate is nginx as a proxy: keep-alive on both sides without a limit on requests, the
// usual forwarding fields, names through a map where there are many.
var nginxTemplate = template.Must(template.New("nginx").Parse(nginxHead + `
http {
  access_log {{.Log}};
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  proxy_max_temp_file_size 0;
{{- if .Map}}
  map_hash_max_size 4194304;
  map_hash_bucket_size 256;
  map $http_host $pool { include {{.Map}}; }
{{- end}}
  upstream backend {
    server 127.0.0.1:{{.Backend}};
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
  }
  server {
    listen 127.0.0.1:{{.Port}}{{if .TLS}} ssl{{end}}{{if .HTTP2}} http2{{end}} backlog=4096;
{{- if .TLS}}
    ssl_certificate {{.Cert}};
    ssl_certificate_key {{.Key}};
    ssl_protocols TLSv1.2 TLSv1.3;
{{- end}}
    location / {
      proxy_pass http://{{if .Map}}$pool{{else}}backend{{end}};
      proxy_http_version 1.1;
{{- if .WebSocket}}
      proxy_set_header Connection "upgrade";
      proxy_set_header Upgrade $http_upgrade;
{{- else}}
      proxy_set_header Connection "";
{{- end}}
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Port $server_port;
    }
  }
}
`))

// nginxMaker starts nginx with one worker per core; logFormat is the format and options of its
// access log; empty = no log.
func nginxMaker(logFormat string) maker {
	return func(ctx context.Context, s *site, w work, _ *options, name string) (*contestant, error) {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		c := &contestant{name: name, url: proxyURL(w, port)}
		accessLog := "off"
		if logFormat != "" {
			c.logFile = s.fileOf(name, ".log")
			accessLog = c.logFile + " " + logFormat
		}
		hostMap := ""
		if w.hosts > 1 {
			hostMap = s.fileOf(name, ".map")
			if err := writeHostMap(hostMap, w.hosts, "backend;"); err != nil {
				return nil, err
			}
		}
		config := s.fileOf(name, ".conf")
		err = writeTemplate(config, nginxTemplate, map[string]any{
			"Root": os.Geteuid() == 0, "Workers": proxyWorkers(), "Dir": s.dir, "Name": fileName(name),
			"Log": accessLog, "Map": hostMap, "Backend": s.backendPort(w), "Port": port, "WebSocket": w.webSocket,
			"TLS": w.encrypted(), "HTTP2": w.http2, "Cert": s.certFile, "Key": s.keyFile,
		})
		if err != nil {
			return nil, err
		}
		if c.proc, err = startNginx(s, name, config); err != nil {
			return nil, err
		}
		return c.await(ctx, w)
	}
}

// writeHostMap writes a line "<name> <value>" for each name.
func writeHostMap(path string, hosts int, value string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write host map: %w", err)
	}
	b := bufio.NewWriter(f)
	for i := range hosts {
		fmt.Fprintln(b, hostName(i), value)
	}
	err = b.Flush()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write host map: %w", err)
	}
	return nil
}
