package redfish

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/stmcginnis/gofish/schemas"
)

// RefusedError is an answer of the BMC that says no.
type RefusedError struct {
	Status int // of HTTP
	text   string
}

func (e *RefusedError) Error() string { return e.text }

// explain makes an error of what the library below says. It keeps no link to
// that error, whose text holds whatever the BMC sent.
func (c *Client) explain(doing string, err error) error {
	var collection *schemas.CollectionError
	if errors.As(err, &collection) {
		links := slices.Sorted(maps.Keys(collection.Failures))
		if len(links) > 0 {
			return c.explain(doing, collection.Failures[links[0]])
		}
	}
	var refused *schemas.Error
	var shown *CertificateError
	var unverified *tls.CertificateVerificationError
	var sent *url.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("cannot %s: %w", doing, contextError(err))
	case errors.As(err, &shown):
		return shown
	case errors.As(err, &unverified) && len(unverified.UnverifiedCertificates) > 0:
		return &CertificateError{Fingerprint(unverified.UnverifiedCertificates[0].Raw), printable(unverified.Err.Error())}
	case errors.As(err, &refused) && refused.HTTPReturnedStatusCode != 0:
		return &RefusedError{refused.HTTPReturnedStatusCode, "cannot " + doing + ": " + c.redact(refusal(refused))}
	case errors.As(err, &sent):
		return fmt.Errorf("cannot %s: cannot reach %s: %s", doing, c.config.URL, c.redact(sent.Err.Error()))
	}
	return fmt.Errorf("cannot %s: %s", doing, c.redact(err.Error()))
}

func contextError(err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return context.DeadlineExceeded
}

// refusal says in the BMC's own words why it refuses.
func refusal(e *schemas.Error) string {
	switch e.HTTPReturnedStatusCode {
	case 401:
		return "the BMC does not take this user and password"
	case 403:
		return "the BMC's user may not do that"
	}
	var words []string
	for _, info := range e.ExtendedInfos {
		if text := firstOf(info.Message, info.MessageID); text != "" {
			words = append(words, text)
		}
	}
	if len(words) == 0 && firstOf(e.Message, e.Code) != "" {
		words = append(words, firstOf(e.Message, e.Code))
	}
	text := fmt.Sprintf("the BMC answers %d", e.HTTPReturnedStatusCode)
	if len(words) > 0 {
		text += ": " + strings.Join(words, "; ")
	}
	return text
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// keepSecret adds what no error may hold.
func (c *Client) keepSecret(texts ...string) {
	for _, t := range texts {
		if t != "" {
			c.secret = append(c.secret, t)
		}
	}
}

func (c *Client) redact(text string) string {
	for _, s := range c.secret {
		text = strings.ReplaceAll(text, s, "***")
	}
	return printable(text)
}

// printable returns one line of at most 400 characters that a terminal can be
// shown: it comes from a stranger.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.TrimSpace(text)
	if runes := []rune(text); len(runes) > 400 {
		text = string(runes[:400]) + "…"
	}
	return text
}
