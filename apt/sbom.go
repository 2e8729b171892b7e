package apt

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// The document's parts, as SPDX 2.3 names them (https://spdx.github.io/spdx-spec/v2.3/).
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Describes     []string           `json:"documentDescribes"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID               string         `json:"SPDXID"`
	Name             string         `json:"name"`
	Version          string         `json:"versionInfo,omitempty"`
	FileName         string         `json:"packageFileName,omitempty"`
	Download         string         `json:"downloadLocation"`
	FilesAnalyzed    bool           `json:"filesAnalyzed"`
	Checksums        []spdxChecksum `json:"checksums,omitempty"`
	SourceInfo       string         `json:"sourceInfo,omitempty"`
	LicenseConcluded string         `json:"licenseConcluded"`
	LicenseDeclared  string         `json:"licenseDeclared"`
	Copyright        string         `json:"copyrightText"`
	Purpose          string         `json:"primaryPackagePurpose"`
	References       []spdxRef      `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const noAssertion = "NOASSERTION"

// SBOM returns the software bill of materials of a class as an SPDX 2.3 document in
// JSON: each package with its origin, its sums and what it depends on. distro is
// that of the package URLs, such as ubuntu; version is gpustrap's own; the date,
// when zero, is that of the newest suite in the lock. Same input, same bytes.
func (l *Lock) SBOM(class, distro, version string, date time.Time) ([]byte, error) {
	c := l.Class(class)
	if c == nil {
		return nil, fmt.Errorf("cannot write the bill of materials: the lock has no class %s", class)
	}
	if date.IsZero() {
		date = l.date()
	}
	text, err := l.Encode()
	if err != nil {
		return nil, err
	}
	root := "SPDXRef-Class-" + spdxID(class)
	d := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: class,
		Namespace: "https://github.com/gpustrap/gpustrap/spdx/" + url.PathEscape(class) + "-" + sum256(text),
		Creation:  spdxCreation{date.UTC().Format("2006-01-02T15:04:05Z"), []string{"Tool: gpustrap-" + version}},
		Describes: []string{root},
		Packages: []spdxPackage{{
			ID: root, Name: "packages of " + class, Download: noAssertion, LicenseConcluded: noAssertion,
			LicenseDeclared: noAssertion, Copyright: noAssertion, Purpose: "INSTALL",
		}},
		Relationships: []spdxRelationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root}},
	}
	ids := map[string]string{}
	for _, key := range c.Packages {
		name, _, _ := splitKey(key)
		ids[name] = "SPDXRef-Package-" + spdxID(key)
	}
	for _, key := range c.Packages {
		p := l.Package(key)
		id := ids[p.Name()]
		d.Packages = append(d.Packages, p.spdx(id, distro))
		d.Relationships = append(d.Relationships, spdxRelationship{root, "CONTAINS", id})
		for _, need := range p.Needs {
			if ids[need] != "" {
				d.Relationships = append(d.Relationships, spdxRelationship{id, "DEPENDS_ON", ids[need]})
			}
		}
	}
	out, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot write the bill of materials: %w", err)
	}
	return append(out, '\n'), nil
}

func (p *LockedPackage) spdx(id, distro string) spdxPackage {
	out := spdxPackage{
		ID: id, Name: p.Name(), Version: p.Version(), FileName: p.File(), Download: p.URL,
		SourceInfo: "built from the source package " + strings.Replace(p.Built, "=", " ", 1) + "; from " + p.Suite,
		// What a package is licensed under stands in its copyright file, in words.
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion, Purpose: "INSTALL",
		References: []spdxRef{{"PACKAGE-MANAGER", "purl", fmt.Sprintf("pkg:deb/%s/%s@%s?arch=%s",
			distro, purl(p.Name()), purl(p.Version()), p.Arch())}},
	}
	for _, sum := range []spdxChecksum{{"SHA256", p.SHA256}, {"SHA512", p.SHA512}} {
		if sum.Value != "" {
			out.Checksums = append(out.Checksums, sum)
		}
	}
	return out
}

// purl escapes a part of a package URL (package-url/purl-spec, "Rules for each purl
// component").
func purl(s string) string {
	return strings.NewReplacer("%3A", ":", "+", "%20").Replace(url.QueryEscape(s))
}

var notID = regexp.MustCompile(`[^A-Za-z0-9.-]`)

// spdxID makes of a text what SPDX takes as an identifier; what it cannot hold is
// written as its number, so that two texts never become one.
func spdxID(s string) string {
	return notID.ReplaceAllStringFunc(s, func(c string) string { return fmt.Sprintf("-x%x-", c) })
}
