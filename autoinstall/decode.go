package autoinstall

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"

	"github.com/gpustrap/gpustrap/report"
)

// header is the first line of user-data; cloud-init ignores a file without it.
const header = "#cloud-config\n"

// userDataName is the file's name in a seed and in complaints about it.
const userDataName = "user-data"

// DecodeDocument reads the autoinstall from user-data in cloud-config form and
// holds it against what the installer of the release knows. The Document is nil
// when the report has errors. Positions are those in the user-data.
func DecodeDocument(userData []byte, release string) (*Document, report.Report) {
	var rep report.Report
	refuse := func(line int, summary, detail string) (*Document, report.Report) {
		rep.Add(report.Diagnostic{
			Severity: report.Error, Pos: report.Position{File: userDataName, Line: line, Column: 1},
			Summary: summary, Detail: detail,
		})
		return nil, rep
	}
	if !bytes.HasPrefix(userData, []byte(header)) {
		return refuse(1, "user-data does not begin with the line #cloud-config", "cloud-init ignores it without")
	}
	var root yaml.Node
	if err := yaml.Unmarshal(userData, &root); err != nil {
		return refuse(1, fmt.Sprintf("user-data is not YAML: %v", err), "")
	}
	if len(root.Content) != 1 {
		return refuse(1, "user-data is empty", "it needs the key autoinstall")
	}
	top := root.Content[0]
	section := valueOf(top, "autoinstall")
	if section == nil {
		return refuse(top.Line, "user-data has no key autoinstall", "every section stands under it")
	}
	if len(top.Content) != 2 {
		return refuse(top.Line, "user-data has keys beside autoinstall",
			"they would change the live system, and the installer stops at some; put them under autoinstall.user-data")
	}
	c := checker{release: release, place: func(node *yaml.Node, _ string) report.Position {
		return report.Position{File: userDataName, Line: node.Line, Column: node.Column}
	}}
	return c.decode(section)
}

// decode checks the autoinstall's node and reads it.
func (c *checker) decode(section *yaml.Node) (*Document, report.Report) {
	c.check(section, documentShape, "autoinstall")
	if c.rep.HasErrors() {
		return nil, c.rep
	}
	doc := new(Document)
	if err := section.Decode(doc); err != nil {
		c.complain(section, "autoinstall", fmt.Sprintf("the autoinstall cannot be read: %v", err), "")
		return nil, c.rep
	}
	if doc.Version != 1 {
		c.complain(section, "autoinstall.version", "autoinstall.version must be 1", "there is no other")
		return nil, c.rep
	}
	return doc, c.rep
}
