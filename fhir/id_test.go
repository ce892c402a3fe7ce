package fhir

import (
	"regexp"
	"strings"
	"testing"
)

func TestValidIDFollowsTheRuleOfR4(t *testing.T) {
	rule := regexp.MustCompile(`^[A-Za-z0-9\-.]{1,64}$`)
	for c := range 256 {
		for _, id := range []string{string([]byte{byte(c)}), string([]byte{'a', byte(c), 'Z'})} {
			if got, want := ValidID([]byte(id)), rule.MatchString(id) && c < 128; got != want {
				t.Errorf("ValidID(%q) = %v, want %v", id, got, want)
			}
		}
	}
	if ValidID(nil) || !ValidID([]byte(strings.Repeat("a", 64))) || ValidID([]byte(strings.Repeat("a", 65))) {
		t.Error("the length of an id is not bounded to 1..64")
	}
}
