package bulk

import (
	"errors"
	"fmt"
	"testing"
)

func TestManifestIsReadAsTheSameRequest(t *testing.T) {
	m := testManager(t)
	f := func(manifest, parameters string) {
		t.Helper()
		got, err := m.ParseManifest([]byte(manifest), "u")
		if err != nil {
			t.Errorf("%s: %v", manifest, err)
			return
		}
		want, err := m.ParseImport([]byte(parameters), "u")
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", *want) || importHash(got) != importHash(want) {
			t.Errorf("%s is read as %+v, want %+v", manifest, *got, *want)
		}
	}
	const format = "inputFormat=application/fhir+ndjson"
	one := `{"type":"Patient","url":"` + testBlob + `p.ndjson"}`
	f(`{"inputFormat":"application/fhir+ndjson","inputSource":"urn:x","input":[`+one+`,{"url":"http://localhost:9000/q","type":null}],"storageDetail":{"type":"azure-blob"}}`,
		testParameters(format, "inputSource=urn:x", "input="+testBlob+"p.ndjson Patient", "input=http://localhost:9000/q"))
	plain := testParameters(format, "input="+testBlob+"p.ndjson Patient")
	f(`{"inputFormat":"Application/FHIR+ndjson","input":[`+one+`],"storageDetail":null}`, plain)
	f(`{"inputFormat":"application/fhir+ndjson","input":[`+one+`],"storageDetail":{"type":"https","contentEncoding":"gzip"}}`, plain)
	f(` {"input":[`+one+`],"storageDetail":{},"inputFormat":"application/fhir+ndjson","mode":"InitialLoad","force":true} `, plain)
	f(`{"inputFormat":"application/fhir+ndjson","input":[{"url":"`+testBlob+`p.ndjson","type":"Patient","etag":"0x1"}]}`,
		testParameters(format, "input="+testBlob+"p.ndjson Patient 0x1"))
}

func TestManifestIsRefused(t *testing.T) {
	m := testManager(t)
	f := func(body, want string) {
		t.Helper()
		_, err := m.ParseManifest([]byte(body), "u")
		var refused *RequestError
		if !errors.As(err, &refused) || refused.Status != 400 || refused.Code != "invalid" || refused.Text != want {
			t.Errorf("%s is refused with %v, want %q", body, err, want)
		}
	}
	shape := func(body, what string) {
		t.Helper()
		f(body, textManifestShape+": "+what+".")
	}
	shape(``, "the body is not a JSON object")
	shape(`null`, "the body is not a JSON object")
	shape(`[]`, "the body is not a JSON object")
	shape(`{"input":[]}{}`, "the body is not a JSON object")
	shape(testParameters("inputFormat=application/fhir+ndjson"), "the body is a resource, whose Content-Type is application/fhir+json")
	shape(`{"inputFormat":1}`, "inputFormat is not a string")
	shape(`{"inputSource":{}}`, "inputSource is not a string")
	shape(`{"storageDetail":"https"}`, "storageDetail is not an object")
	shape(`{"storageDetail":{"type":["https"]}}`, "storageDetail.type is not a string")
	shape(`{"input":{"url":"x"}}`, "input is not an array")
	shape(`{"input":["x"]}`, "input[0] is not an object")
	shape(`{"input":[{},null]}`, "input[1] is not an object")
	shape(`{"input":[{},{"url":5}]}`, "input[1].url is not a string")
	shape(`{"input":[{"type":false}]}`, "input[0].type is not a string")

	f(`{"inputFormat":"a","input":[],"inputFormat":"b"}`, `Import request has the member "inputFormat" twice in one object; say it once.`)
	f(`{"input":[{"url":"a","type":"Patient","url":"b"}]}`, `Import request has the member "url" twice in one object; say it once.`)

	const format = `"inputFormat":"application/fhir+ndjson"`
	f(`{}`, "Value of the following parameter inputFormat is invalid.")
	f(`{`+format+`,"storageDetail":{"type":"aws-s3"}}`, "Value of the following parameter storageDetails is invalid.")
	f(`{`+format+`}`, "Value of the following parameter input is invalid.")
	f(`{`+format+`,"input":[]}`, "Value of the following parameter input is invalid.")
	one := `{"type":"Patient","url":"` + testBlob + `p.ndjson"}`
	f(`{`+format+`,"input":[`+one+`,`+one+`]}`, "Import request cannot have duplicate files. Found duplicates: "+testBlob+"p.ndjson. ")
	f(`{`+format+`,"input":[{"type":"patient","url":"x"}]}`, "Requested operation does not support resource type: patient.")
	f(`{`+format+`,"input":[{"type":"Patient"}]}`, "Value of the following parameter input.url is invalid.")
	f(`{`+format+`,"input":[{"url":"https://other.example/p"}]}`, textForeignOrigin)
}
