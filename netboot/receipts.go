package netboot

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/gpustrap/gpustrap/netboot/state"
)

// maxReceipt is the length of the longest receipt, in bytes.
const maxReceipt = 1 << 20

// signatureHeader carries the receipt's HMAC (docs/ready.md).
const signatureHeader = "X-Gpustrap-Signature"

// receipt is what gpu-ready posts, as far as the server looks at it
// (scripts/receipt.schema.json).
type receipt struct {
	Version int    `json:"version"`
	Machine string `json:"machine"`
	Ready   bool   `json:"ready"`
	Line    string `json:"line"`
	Action  string `json:"action"`
}

// serveReceipt answers POST /report/TOKEN/receipt.
func (s *Server) serveReceipt(w http.ResponseWriter, r *http.Request) {
	record, err := s.lookup(r.Context(), state.Token(r.PathValue("token")), state.ForReport, addressOf(r))
	if err != nil {
		s.refuse(w, err)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReceipt))
	if err != nil {
		http.Error(w, "cannot read the receipt", http.StatusBadRequest)
		return
	}
	if m := s.Machine(record.Machine); m != nil && m.Ready.Token != "" && !signed(body, m.Ready.Token, r.Header.Get(signatureHeader)) {
		s.o.Log.Warn("a receipt is not signed by the machine's token", "machine", record.Machine)
		http.Error(w, "the receipt is not signed with the machine's token", http.StatusForbidden)
		return
	}
	var found receipt
	if err := json.Unmarshal(body, &found); err != nil || found.Version != 1 || found.Line == "" {
		http.Error(w, "this is no receipt of gpu-ready", http.StatusBadRequest)
		return
	}
	if found.Machine != record.Machine {
		http.Error(w, "the receipt is another machine's", http.StatusForbidden)
		return
	}
	if err := s.proof(r.Context(), record, found); err != nil {
		s.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// signed reports whether a signature is that of a body under a token.
func signed(body []byte, token, signature string) bool {
	digits, ok := strings.CutPrefix(signature, "sha256=")
	given, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(token))
	_, _ = mac.Write(body)
	return hmac.Equal(given, mac.Sum(nil))
}

// maxLine bounds what is kept of a receipt's text.
const maxLine = 500

// proof takes a receipt into the store. The installed system runs, whatever the
// installer was heard to say.
func (s *Server) proof(ctx context.Context, r *state.Record, found receipt) error {
	line := found.Line
	if found.Action != "" {
		line += "; " + found.Action
	}
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine], "") + " …"
	}
	now := s.o.Now()
	s.Saw(r.Machine, Sighting{Kind: SawProof, Detail: line})
	for range claims {
		current, err := s.o.Store.Amend(ctx, r.Machine, r.Generation, func(r *state.Record) {
			r.Receipt = &state.Receipt{Time: now, Ready: found.Ready, Line: line}
		})
		if errors.Is(err, state.ErrConflict) {
			return state.ErrUnknown // another generation's by now
		}
		if err != nil {
			return err
		}
		s.board.put(current)
		to := state.Failed
		if found.Ready {
			to = state.Ready
		}
		if current.Phase == state.Ready {
			return nil // how it was installed does not change; the receipt says how it is
		}
		next := nextPhase(current.Phase, state.Ready)
		if next == state.Ready {
			next = to
		}
		if next == "" || next == current.Phase {
			return nil
		}
		_, err = s.advance(ctx, current, []state.Phase{current.Phase}, next, proofText(next, found.Ready, line))
		if err != nil && !errors.Is(err, state.ErrConflict) {
			return err
		}
		if err == nil && next == to {
			return nil
		}
	}
	return fmt.Errorf("its state changes too fast: %w", state.ErrConflict)
}

func proofText(next state.Phase, ready bool, line string) string {
	if next == state.Ready || next == state.Failed && !ready {
		return line
	}
	return "" // a step on the way
}
