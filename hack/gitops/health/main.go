// health says how GitOps tools read objects, by the code that they run themselves: Flux by
// kstatus, Argo CD by the Lua scripts of its ConfigMap.
//
//	health ARGOCD_CM <LIST
//
// LIST is a List of Kubernetes as JSON. What comes is one line of JSON for each of its objects.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/yaml"
)

// verdict is how both read one object.
type verdict struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Flux    string `json:"flux"`
	Argo    string `json:"argo"`
	Message string `json:"message"` // Argo CD's
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("say the file of Argo CD's ConfigMap")
	}
	scripts, err := read(os.Args[1])
	if err != nil {
		return err
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(input); err != nil {
		return fmt.Errorf("reading the objects: %w", err)
	}
	out := json.NewEncoder(os.Stdout)
	for i := range list.Items {
		verdict, err := judge(&list.Items[i], scripts)
		if err != nil {
			return fmt.Errorf("%s %s: %w", list.Items[i].GetKind(), list.Items[i].GetName(), err)
		}
		if err := out.Encode(verdict); err != nil {
			return err
		}
	}
	return nil
}

// read gives the ConfigMap's data, as kubectl reads the file.
func read(file string) (map[string]string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var configMap struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal(content, &configMap); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return configMap.Data, nil
}

func judge(object *unstructured.Unstructured, scripts map[string]string) (*verdict, error) {
	flux, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	kind := object.GroupVersionKind()
	key := fmt.Sprintf("resource.customizations.health.%s_%s", kind.Group, kind.Kind)
	script, found := scripts[key]
	if !found {
		return nil, fmt.Errorf("there is no %s", key)
	}
	argo, message, err := execute(script, object)
	if err != nil {
		return nil, err
	}
	return &verdict{kind.Kind, object.GetName(), flux.Status.String(), argo, message}, nil
}

// execute runs a script as Argo CD's util/lua does: of Lua's own libraries there are those
// alone that cannot reach anything, and not even the one for strings. (Its own `os`, which
// tells the time, is left out: no script of ours asks for that.)
func execute(script string, object *unstructured.Unstructured) (status, message string, err error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return "", "", err
		}
	}
	content, err := object.MarshalJSON()
	if err != nil {
		return "", "", err
	}
	value, err := luajson.Decode(state, content)
	if err != nil {
		return "", "", err
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	told, is := state.Get(-1).(*lua.LTable)
	if !is {
		return "", "", errors.New("the script returns no table")
	}
	text := func(field string) string {
		text, _ := told.RawGetString(field).(lua.LString)
		return string(text)
	}
	return text("status"), text("message"), nil
}
