package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gpustrap/gpustrap/netboot"
)

// serverFlags say which server a command talks to.
type serverFlags struct {
	server, tokenFile, certFile string
}

func (f *serverFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", "https://"+defaultAdmin, "`URL` of the server, its --admin")
	cmd.Flags().StringVar(&f.tokenFile, "token-file", "", "`file` with the administrators' token (default: the server's own, in "+dataFolderName+")")
	cmd.Flags().StringVar(&f.certFile, "cert", "", "certificate in PEM to check the server by (`file`; default: the one that it made)")
}

// serverClient talks to a server's API.
type serverClient struct {
	base      string
	token     string
	tokenFile string
	http      *http.Client
}

// connect reads what is needed to talk to the server.
func (f *serverFlags) connect(cmd *cobra.Command) (*serverClient, error) {
	address, err := url.Parse(f.server)
	if err != nil || address.Scheme != "https" || address.Host == "" {
		return nil, usagef("--server is %q, and must be an https address", f.server)
	}
	beside := filepath.Join(filepath.Dir(configName(cmd)), dataFolderName)
	tokenFile := f.tokenFile
	if tokenFile == "" {
		tokenFile = filepath.Join(beside, adminTokenName)
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, withHint(fmt.Errorf("cannot read the administrators' token: %w", err),
			"gpustrap serve says at its start where it is; name it with --token-file")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	certFile := f.certFile
	if certFile == "" {
		// A server with a certificate of its own made lies beside its token.
		certFile = filepath.Join(filepath.Dir(tokenFile), certName)
	}
	pool, err := certPool(certFile)
	switch {
	case err == nil:
		config.RootCAs = pool
	case f.certFile != "" || !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return &serverClient{
		base: strings.TrimSuffix(f.server, "/"), token: strings.TrimSpace(string(token)), tokenFile: tokenFile,
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: config}},
	}, nil
}

// machinePath adds a machine's name to an address of the API.
func machinePath(name string, further ...string) string {
	return "/api/v1/machines/" + url.PathEscape(name) + strings.Join(further, "")
}

// call does a request; the caller closes the answer's body.
func (c *serverClient) call(ctx context.Context, method, path string, posted any) (*http.Response, error) {
	var body io.Reader
	if posted != nil {
		data, err := json.Marshal(posted)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreached(err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer func() { _ = answer.Body.Close() }() // the error says enough
	var problem netboot.Problem
	if json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&problem) != nil || problem.Error == "" {
		problem.Error = answer.Status
	}
	err = &refused{answer.StatusCode, problem.Error}
	if answer.StatusCode == http.StatusUnauthorized {
		err = withHint(err, "%s is not it; gpustrap serve says at its start where it lies: name it with --token-file", c.tokenFile)
	}
	return nil, err
}

// refused is what a server said instead of doing what it was asked for.
type refused struct {
	status int // of HTTP
	text   string
}

func (r *refused) Error() string { return r.text }

// passing reports whether a request that failed may do better later: the server is not
// there, or has trouble of its own. What it refuses, it refuses again.
func passing(err error) bool {
	var answer *refused
	var syntax *json.SyntaxError
	var value *json.UnmarshalTypeError
	if errors.As(err, &answer) {
		return answer.status >= http.StatusInternalServerError
	}
	return !errors.Is(err, errUntrusted) && !errors.As(err, &syntax) && !errors.As(err, &value)
}

// errUntrusted: a server's certificate is not the one that is expected.
var errUntrusted = errors.New("cannot trust the server")

// unreached says why a server was not reached, and what to do about it.
func (c *serverClient) unreached(err error) error {
	var sent *url.Error
	var unverified *tls.CertificateVerificationError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &unverified):
		return withHint(fmt.Errorf("%w at %s: %w", errUntrusted, c.base, unverified.Err),
			"--cert names its certificate: the file "+certName+" in its data folder, unless it was given another")
	case errors.As(err, &sent):
		err = sent.Err
	}
	return withHint(fmt.Errorf("cannot reach the server at %s: %w", c.base, err), "gpustrap serve runs one; --server names another")
}

// read does a request and reads its answer.
func (c *serverClient) read(ctx context.Context, method, path string, posted, answer any) error {
	response, err := c.call(ctx, method, path, posted)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // it is read
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("cannot read the server's answer: %w", err)
	}
	return nil
}

// views returns what the server says of the machines that the patterns name, or of
// all.
func (c *serverClient) views(ctx context.Context, patterns []string) ([]netboot.View, error) {
	var all []netboot.View
	if err := c.read(ctx, http.MethodGet, "/api/v1/machines", nil, &all); err != nil {
		return nil, err
	}
	if len(patterns) == 0 {
		return all, nil
	}
	var out []netboot.View
	matched := make([]bool, len(patterns))
	for _, v := range all {
		wanted := false
		for i, pattern := range patterns {
			ok, err := filepath.Match(pattern, v.Machine)
			if err != nil {
				return nil, usagef("cannot read the pattern %q: %w", pattern, err)
			}
			matched[i] = matched[i] || ok
			wanted = wanted || ok
		}
		if wanted {
			out = append(out, v)
		}
	}
	for i, ok := range matched {
		if !ok {
			return nil, usagef("the server has no machine %q", patterns[i])
		}
	}
	return out, nil
}
