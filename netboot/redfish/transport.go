package redfish

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer is the length, in bytes, of the longest answer that is read.
const maxAnswer = 8 << 20

// maxQuestion is how long a BMC may take to answer; some do their work first.
const maxQuestion = 2 * time.Minute

// CertificateError says that a BMC showed a certificate that is not trusted.
type CertificateError struct {
	Fingerprint string // SHA-256 of what it showed, as Config takes it
	reason      string
}

func (e *CertificateError) Error() string {
	return "the BMC's certificate is not trusted: " + e.reason
}

// Hint says what to do about it.
func (e *CertificateError) Hint() string {
	return "compare with the fingerprint on the BMC's own page, then write it to the machine's bmc:\nfingerprint: \"" + e.Fingerprint + "\""
}

// newHTTPClient returns a client that talks to one host alone, so that no
// redirect and no link carries the session elsewhere.
func newHTTPClient(config Config, base *url.URL) (*http.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: base.Hostname()}
	switch {
	case config.Fingerprint != "":
		pin, err := parseFingerprint(config.Fingerprint)
		if err != nil {
			return nil, err
		}
		// What stands in a BMC's own certificate tells nothing; its hash does.
		tlsConfig.InsecureSkipVerify = true
		tlsConfig.VerifyConnection = func(state tls.ConnectionState) error {
			if shown := sha256.Sum256(state.PeerCertificates[0].Raw); shown != pin {
				return &CertificateError{fingerprintText(shown), "it is not the one whose fingerprint was given"}
			}
			return nil
		}
	case len(config.CA) > 0:
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(config.CA) {
			return nil, errors.New("the BMC's authority has no certificate in PEM")
		}
	case config.Insecure:
		tlsConfig.InsecureSkipVerify = true
	}
	return &http.Client{
		Timeout: maxQuestion,
		Transport: oneHost{base, &http.Transport{
			TLSClientConfig: tlsConfig, TLSHandshakeTimeout: 30 * time.Second, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		}},
	}, nil
}

// oneHost refuses every other host, and to go on without TLS where there is some, and
// cuts answers that have no end.
type oneHost struct {
	base *url.URL
	http.RoundTripper
}

// port returns the port that a URL leads to.
func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

func (o oneHost) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case r.URL.Scheme != o.base.Scheme && r.URL.Scheme != "https":
		return nil, errors.New("the BMC sends us on to a connection without TLS")
	case !strings.EqualFold(r.URL.Hostname(), o.base.Hostname()), r.URL.Scheme == o.base.Scheme && port(r.URL) != port(o.base):
		return nil, fmt.Errorf("the BMC sends us on to another host, %s", printable(r.URL.Host))
	}
	resp, err := o.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = limited{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// CloseIdleConnections lets http.Client do so.
func (o oneHost) CloseIdleConnections() {
	if t, ok := o.RoundTripper.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

type limited struct {
	io.Reader
	io.Closer
}

func parseFingerprint(text string) (pin [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(b) != len(pin) {
		return pin, errors.New("the BMC's fingerprint must be 64 hexadecimal digits, the SHA-256 of its certificate")
	}
	return [sha256.Size]byte(b), nil
}

func fingerprintText(sum [sha256.Size]byte) string {
	var out bytes.Buffer
	for i, b := range sum {
		if i > 0 {
			out.WriteByte(':')
		}
		fmt.Fprintf(&out, "%02X", b)
	}
	return out.String()
}

// Fingerprint returns the fingerprint of a certificate (DER) as Config takes it.
func Fingerprint(certificate []byte) string { return fingerprintText(sha256.Sum256(certificate)) }

func decode(r io.Reader, into any) error { return json.NewDecoder(r).Decode(into) }
