// Command volumes is the cluster's dynamic provisioner: it answers claims of the
// storage class `standard` with folders of the node, as kind's does.
//
// The volumes are of type `local`, not `hostPath`: the kubelet applies a pod's
// fsGroup to the former and never to the latter.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Name of the provisioner, as the storage class spells it.
const provisionerName = "dbbackup.dev/local-folder"

// folders makes and removes one folder per volume below root, on this node.
type folders struct{ root, node string }

// ShouldProvision leaves claims to the node that the scheduler has chosen for their pod.
func (f folders) ShouldProvision(_ context.Context, claim *v1.PersistentVolumeClaim) bool {
	return claim.Annotations["volume.kubernetes.io/selected-node"] == f.node
}

// ShouldDelete leaves a volume to the node that has its folder.
func (f folders) ShouldDelete(_ context.Context, volume *v1.PersistentVolume) bool {
	return equality.Semantic.DeepEqual(volume.Spec.NodeAffinity, onNode(f.node))
}

func (f folders) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	for _, mode := range o.PVC.Spec.AccessModes {
		if mode == v1.ReadOnlyMany || mode == v1.ReadWriteMany {
			return nil, controller.ProvisioningFinished, fmt.Errorf("a folder of one node cannot be %s", mode)
		}
	}
	if o.PVC.Spec.VolumeMode != nil && *o.PVC.Spec.VolumeMode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, errors.New("a folder cannot be a block device")
	}

	path := filepath.Join(f.root, o.PVName)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// MkdirAll obeys the umask. The folder is open to all because a pod of the
	// restricted level runs under any uid, and need not ask for an fsGroup.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}

	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			// The size is a promise that nobody enforces, as with kind.
			Capacity: v1.ResourceList{
				v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage],
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{
				Local: &v1.LocalVolumeSource{Path: path},
			},
			NodeAffinity: onNode(f.node),
		},
	}, controller.ProvisioningFinished, nil
}

func (f folders) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	// The name, not the path that the object claims: whoever edits a volume
	// must not choose what is deleted.
	return os.RemoveAll(filepath.Join(f.root, filepath.Base(volume.Name)))
}

func onNode(name string) *v1.VolumeNodeAffinity {
	return &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{
		NodeSelectorTerms: []v1.NodeSelectorTerm{{
			MatchExpressions: []v1.NodeSelectorRequirement{{
				Key:      v1.LabelHostname,
				Operator: v1.NodeSelectorOpIn,
				Values:   []string{name},
			}},
		}},
	}}
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of the kubeconfig")
	root := flag.String("root", "", "folder that holds the volumes")
	node := flag.String("node", "", "name of this node")
	flag.Parse()
	if err := run(*kubeconfig, *root, *node); err != nil {
		fmt.Fprintln(os.Stderr, "volumes:", err)
		os.Exit(1)
	}
}

func run(kubeconfig, root, node string) error {
	if !filepath.IsAbs(root) {
		return fmt.Errorf("--root must be an absolute path, not %q", root)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx := context.Background()
	// One instance per node, each with claims of its own: there is nobody to elect.
	controller.NewProvisionController(ctx, client, provisionerName, folders{root, node},
		controller.LeaderElection(false)).Run(ctx)
	return nil
}
