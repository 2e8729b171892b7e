package download

import "testing"

func TestParseContentRange(t *testing.T) {
	tests := []struct {
		text         string
		start, total int64
		ok           bool
	}{
		{"bytes 5-9/10", 5, 10, true},
		{"bytes 0-0/1", 0, 1, true},
		{"bytes 5-9/*", 5, -1, true},
		{"bytes */10", 0, 10, false},
		{"bytes 5-10/10", 0, 10, false},
		{"bytes 9-5/10", 0, 10, false},
		{"bytes -5-9/10", 0, 10, false},
		{"bytes 5-/10", 0, 10, false},
		{"bytes 5-9", 0, -1, false},
		{"items 5-9/10", 0, -1, false},
		{"bytes 99999999999999999999-9/10", 0, 10, false},
		{"", 0, -1, false},
	}
	for _, tt := range tests {
		start, total, ok := parseContentRange(tt.text)
		if start != tt.start || total != tt.total || ok != tt.ok {
			t.Errorf("parseContentRange(%q) = %d, %d, %v, want %d, %d, %v", tt.text, start, total, ok, tt.start, tt.total, tt.ok)
		}
	}
}
