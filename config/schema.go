package config

import (
	"encoding/json"
	"fmt"
)

// Schema returns the JSON Schema (draft 2020-12) of a gpustrap.yaml, for
// editors. It is written from the table that the decoder reads by, and accepts
// what Decode accepts, but for what a schema cannot see: anchors, keys that
// stand twice, and the meaning of a text beyond its form. gpuModels, where
// given, are the names that gpu.model takes.
func Schema(gpuModels []string) ([]byte, error) {
	s := &schemaWriter{defs: map[string]any{}}
	form := fileForm(gpuModels)
	root := form.object(s)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "gpustrap.yaml"
	root["description"] = "Machines that install Ubuntu Server with a GPU stack, by themselves."
	root["$defs"] = s.defs
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot encode the schema: %w", err)
	}
	return append(out, '\n'), nil
}

// schemaWriter collects the definitions that the schema refers to.
type schemaWriter struct {
	defs map[string]any
}

func (m mappingForm[T, P]) schema(s *schemaWriter) map[string]any {
	if _, ok := s.defs[m.id]; !ok {
		s.defs[m.id] = nil // taken, while its keys are written
		s.defs[m.id] = m.object(s)
	}
	return map[string]any{"$ref": "#/$defs/" + m.id}
}

// object returns the schema of the mapping itself.
func (m mappingForm[T, P]) object(s *schemaWriter) map[string]any {
	properties := make(map[string]any, len(m.fields))
	var required []string
	for _, f := range m.fields {
		property := f.shape.schema(s)
		property["description"] = f.doc
		if f.fallback != "" {
			property["description"] = f.doc + " Default: " + f.fallback + "."
		}
		properties[f.name] = property
		if f.required {
			required = append(required, f.name)
		}
	}
	object := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		object["required"] = required
	}
	if rules := groupRules(m.groups); len(rules) > 0 {
		object["allOf"] = rules
	}
	return object
}

func groupRules(groups []group) []any {
	var rules []any
	for _, g := range groups {
		var alternatives []any
		for i, a := range g.keys {
			alternatives = append(alternatives, map[string]any{"required": []string{a}})
			for _, b := range g.keys[i+1:] {
				rules = append(rules, map[string]any{"not": map[string]any{"required": []string{a, b}}})
			}
		}
		if g.one {
			rules = append(rules, map[string]any{"anyOf": alternatives})
		}
	}
	return rules
}

func (s switchForm[T, P]) schema(w *schemaWriter) map[string]any {
	return map[string]any{"anyOf": []any{
		s.mappingForm.schema(w),
		map[string]any{"enum": []any{"off", false}},
	}}
}

func (a appForm) schema(s *schemaWriter) map[string]any {
	return map[string]any{"anyOf": []any{a.name.schema(s), a.mappingForm.schema(s)}}
}

func (l listForm[V]) schema(s *schemaWriter) map[string]any {
	item := l.item.schema(s)
	array := map[string]any{"type": "array", "items": item}
	if l.min > 0 {
		array["minItems"] = l.min
	}
	if l.single {
		return map[string]any{"anyOf": []any{item, array}}
	}
	return array
}

func (t textForm) schema(*schemaWriter) map[string]any {
	if len(t.enum) > 0 {
		var values []any
		for _, e := range t.enum {
			values = append(values, e)
		}
		for _, e := range t.enum { // as editors read them without quotes
			if sameNumber(e, e) {
				values = append(values, json.Number(e))
			}
			if on, ok := switchWord(e); ok {
				values = append(values, on)
			}
		}
		return map[string]any{"enum": values}
	}
	out := map[string]any{"type": "string", "minLength": 1}
	if t.pattern != nil {
		out["pattern"] = t.pattern.String()
	}
	if t.max > 0 {
		out["maxLength"] = t.max
	}
	if t.numeral {
		out["type"] = []string{"string", "integer"}
		out["minimum"], out["maximum"] = t.lowest, t.highest
	}
	return out
}

func (f intForm) schema(*schemaWriter) map[string]any {
	return map[string]any{"type": "integer", "minimum": f.min, "maximum": f.max}
}

func (f boolForm) schema(*schemaWriter) map[string]any {
	if f.onlyTrue {
		return map[string]any{"enum": []any{true}}
	}
	return map[string]any{"type": "boolean"}
}

func (accessForm) schema(*schemaWriter) map[string]any {
	return map[string]any{"enum": []any{true, false, rootlessWord}}
}

func (rawForm) schema(*schemaWriter) map[string]any { return map[string]any{"type": "object"} }

func (p namedForm) schema(s *schemaWriter) map[string]any {
	return map[string]any{
		"type":                 "object",
		"propertyNames":        map[string]any{"pattern": p.name.pattern.String(), "maxLength": p.name.max},
		"additionalProperties": p.profile.schema(s),
	}
}

func (f textOrFileForm[V]) schema(*schemaWriter) map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "string", "minLength": 1},
		map[string]any{
			"type": "object", "additionalProperties": false, "required": []string{"file"},
			"properties": map[string]any{"file": map[string]any{
				"type": "string", "minLength": 1, "pattern": filePath.String(),
				"description": "Path of a file that holds it, absolute or relative to the folder of this file.",
			}},
		},
	}}
}
