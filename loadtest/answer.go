package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"
)

// checker asks single questions, each on a connection of its own so that nothing stays open.
var checker = &http.Client{
	Timeout: 5 * time.Second,
	Transport: &http.Transport{
		DisableKeepAlives: true,
		// The certificate is one of ours, made for this run and signed by nobody.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	},
}

// ask gets url under the given Host and returns the body of an answer with status 200.
func ask(url, host string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Host = host
	resp, err := checker.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestBytes+1))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s for %s: status %d, X-Sluice-Error %q",
			url, host, resp.StatusCode, resp.Header.Get("X-Sluice-Error"))
	}
	return body, nil
}

// largestBytes is more than any answer has.
const largestBytes = 16 << 20

// checkAnswer fails unless url answers with a body of the right size.
func checkAnswer(url, host string, size int) error {
	body, err := ask(url, host)
	if err != nil {
		return err
	}
	if len(body) != size {
		return fmt.Errorf("get %s for %s: %d bytes, want %d", url, host, len(body), size)
	}
	return nil
}
