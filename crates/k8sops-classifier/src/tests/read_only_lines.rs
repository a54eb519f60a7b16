//! Lines that only read.

use super::assert_classes;

#[test]
fn kubectl_reads_are_read() {
    assert_classes(KUBECTL);
}

#[test]
fn secret_output_is_marked() {
    assert_classes(SECRETS);
}

#[test]
fn harmless_pipes_and_sequences_are_read() {
    assert_classes(SHELL);
}

#[test]
fn dry_runs_are_read() {
    assert_classes(DRY_RUNS);
}

#[test]
fn helm_and_argocd_reads_are_read() {
    assert_classes(HELM_AND_ARGOCD);
}

const KUBECTL: &str = r#"
    R- kubectl get pods
    R- kubectl get pods -A
    R- kubectl get pods --all-namespaces -o wide
    R- kubectl get po -n kube-system
    R- kubectl get pods -nkube-system
    R- kubectl get pods -n=kube-system
    R- kubectl -n prod get deploy,sts,ds
    R- kubectl --namespace prod get all
    R- kubectl --namespace=prod get all
    R- kubectl --context staging get nodes
    R- kubectl --context=staging --request-timeout=5s get nodes -o json
    R- /usr/bin/kubectl get pods
    R- /usr/local/bin/kubectl get pods
    R- kubectl get pod web-0 -o yaml --show-managed-fields=false
    R- kubectl get pods -l app=web,tier!=cache --show-labels
    R- kubectl get pods -l 'app in (web, api)'
    R- kubectl get pods --field-selector=status.phase!=Running
    R- kubectl get pods --sort-by=.metadata.creationTimestamp
    R- kubectl get pods -o jsonpath={.items[*].metadata.name}
    R- kubectl get pods -o jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}'
    R- kubectl get pods -o=custom-columns=NAME:.metadata.name,IP:.status.podIP
    R- kubectl get pods -o go-template='{{range .items}}{{.metadata.name}}{{end}}'
    R- kubectl get pods -w
    R- kubectl get pods -Aowide
    R- kubectl get events -A --sort-by='.lastTimestamp'
    R- kubectl get cm app-config -o yaml
    R- kubectl get hpa web -o json
    R- kubectl get deployment/web deployment/api
    R- kubectl get ingressroutes.traefik.io
    R- kubectl get crd -o name
    R- kubectl get pods -v=6
    R- kubectl get --raw /healthz
    R- kubectl get --raw /readyz?verbose
    R- kubectl get --raw '/apis/metrics.k8s.io/v1beta1/nodes'
    R- kubectl get --raw=/api/v1/nodes/n1/proxy/stats/summary
    R- kubectl get pod secret-agent
    R- kubectl describe pod web-0
    R- kubectl describe node n1
    R- kubectl describe deploy -l app=web -n prod
    R- kubectl logs web-0
    R- kubectl logs -f deploy/web -c app --tail=100
    R- kubectl logs web-0 --tail -1 --since 1h --previous
    R- kubectl logs -l app=web --all-containers --prefix
    R- kubectl events -n prod --for pod/web-0
    R- kubectl top pods -A --sort-by=memory
    R- kubectl top node
    R- kubectl explain deployment.spec.strategy --recursive
    R- kubectl explain secret
    R- kubectl api-resources --verbs=list --namespaced -o name
    R- kubectl api-versions
    R- kubectl version
    R- kubectl version -o yaml --client
    R- kubectl cluster-info
    R- kubectl cluster-info dump
    R- kubectl auth can-i delete pods -n prod
    R- kubectl auth can-i get secrets -n prod
    R- kubectl auth can-i --list
    R- kubectl auth whoami
    R- kubectl rollout status deploy/web
    R- kubectl rollout status deploy/web --timeout=60s --watch=false
    R- kubectl rollout history deploy/web --revision=3
    R- kubectl -n prod rollout -n prod status deploy/web
    R- kubectl wait --for=condition=Ready pod/web-0 --timeout=30s
    R- kubectl wait --for=delete pod/web-0
    R- kubectl config get-contexts
    R- kubectl config current-context
    R- kubectl config get-clusters
    R- kubectl plugin list
    R- kubectl completion bash
    R- kubectl options
    R- kubectl
    R- kubectl --help
    R- kubectl delete --help
    R- kubectl rollout restart -h
    RO kubectl diff -f - --server-side
"#;

const SECRETS: &str = r#"
    RO kubectl get secrets
    RO kubectl get secret db -o yaml
    RO kubectl get secret/db -o json
    RO kubectl get Secrets -A
    RO kubectl get secrets.v1. -o yaml
    RO kubectl get pods,secrets -o yaml
    RO kubectl get cm/app secret/db -o yaml
    RO kubectl describe secret db
    RO kubectl get --raw /api/v1/namespaces/prod/secrets
    RO kubectl get secrets -n prod -o jsonpath='{.items[*].metadata.name}'
    RO kubectl get secrets -A -o custom-columns=NS:.metadata.namespace,NAME:.metadata.name
    RO kubectl get secrets -o json | jq -r '.items[].metadata.name'
    RO kubectl get secrets -A -o json | jq -r '.items[] | .metadata.namespace + ":" + .metadata.name'
    RV kubectl get secrets -o json | jq -r '.items[].data'
    RV kubectl get secrets -o custom-columns=NAME:.metadata.name,V:.data
    RV kubectl get secret db -o jsonpath='{.data.password}'
    RV kubectl get secret db -o=jsonpath={.data.password}
    RV kubectl get secret db -ojsonpath={.data.password}
    RV kubectl get secret db --template='{{.data.password}}'
    RV kubectl get secret db -o go-template='{{.data.password | base64decode}}'
    RV kubectl get secrets -o custom-columns=P:.data.password
    RV kubectl get secret db -o jsonpath-as-json={.data}
    RV kubectl get secret db -o jsonpath={.data.password} | base64 -d
    RV kubectl get secret db -o jsonpath='{.data.password}' | base64 --decode; echo
    RV kubectl get secret db -o json | jq -r .data.password
    RV kubectl get secret db -o json | jq -r '.data.password | @base64d'
    RV kubectl get secret db -o yaml | grep password
    RV kubectl get secret db -o yaml | awk '/password/ {print $2}' | base64 -d
    RV kubectl get cm app -o jsonpath={.data.key} | base64 -d
    RO kubectl get secret db -o yaml | head -20
    RO kubectl get secrets -A | grep tls
    RO kubectl get secrets --no-headers | wc -l
    RO kubectl get pods; kubectl get secret db -o yaml
    RO kubectl config view
    RO kubectl config view --raw
    RO kubectl config view --minify --flatten
    RV kubectl config view -o jsonpath='{.users[0].user.token}'
    RV kubectl config view --raw | grep token
    RO kubectl create secret generic db --from-literal=p=x --dry-run=client -o yaml
    RO kubectl apply view-last-applied secret/db
    RO helm get all web
    RO helm get manifest web -n prod
    RO helm get values web
    RO helm status web -o json
    RO helm template web ./chart
    RO argocd cluster get prod -o json
    RO argocd app manifests web
"#;

const SHELL: &str = r#"
    R- kubectl get pods | grep -v Running
    R- kubectl get pods -A | grep -Ev 'Running|Completed'
    R- kubectl get pods | grep web | wc -l
    R- kubectl get pods --no-headers | awk '{print $1}'
    R- kubectl get pods -o json | jq '.items[] | .metadata.name'
    R- kubectl get pods -o json | jq -r '.items[].spec.containers[].env'
    R- kubectl get deploy web -o yaml | yq '.spec.template'
    R- kubectl get pods | head -n 5
    R- kubectl get pods | head -5
    R- kubectl logs web-0 | tail -n 20
    R- kubectl logs web-0 2>&1 | grep -i error | tail -20
    R- kubectl logs web-0 | sort | uniq -c | sort -rn | head
    R- kubectl get pods | cut -d' ' -f1
    R- kubectl get pods | tr -s ' ' | cut -d ' ' -f 3
    R- kubectl get pods | sed -n '2,5p'
    R- kubectl get pods | sed 's/web/api/g'
    R- kubectl get pods | column -t
    R- kubectl get pods | cat
    R- kubectl get pods | grep "web$"
    R- kubectl get pods 2>/dev/null
    R- kubectl get pods >/dev/null 2>&1
    R- kubectl get pods &>/dev/null
    R- kubectl get pods && kubectl get svc
    R- kubectl get pods || true
    R- kubectl get pods; kubectl get svc;
    R- kubectl get pods⏎kubectl get svc⏎
    R- kubectl get pods \⏎  -n prod
    R- kubectl get pods |⏎ grep web
    R- echo "--- pods ---"; kubectl get pods
    R- kubectl get pods; sleep 5; kubectl get pods
    R- timeout 10 kubectl get pods
    R- timeout -k 5 30s kubectl logs -f web-0
    R- time kubectl get pods
    R- watch -n 2 kubectl get pods
    R- date +%s; kubectl get nodes
    R- kubectl get pods & kubectl get svc
    R- helm list -A | grep failed
    R- kubectl get pods |& grep x
    R- bash -c "kubectl get pods"
    R- sh -c 'kubectl get pods | grep web'
    R- bash -euo pipefail -c 'kubectl get pods'
    R- set -euo pipefail; kubectl get pods | grep web
    R- kubectl get pods # comment
    R- # let's look at -A⏎kubectl get pods -A
    R- kubectl get pods⏎# and now⏎kubectl get svc
    R- kubectl get pods; echo $?
    R- kubectl get pods; echo "exit: $?"
    R- LC_ALL=C kubectl get pods | sort
    R- kubectl get pods | less
    R- kubectl get pods | more
    R- kubectl get pods | less -S
    R- kubectl get pods -A | awk 'NR>1 && $5>3 {print $2,$5}'
    R- kubectl get pods -A | awk -v OFS='\t' '{print $1,$2}'
    R- kubectl describe pod web-0 | sed -n '/Events:/,$p'
    R- kubectl describe pod web-0 | sed -n -e '/Events:/,$p' -e 1p
    R- kubectl get pods -o json | jq
    R- kubectl get pods -o json | jq -r --arg n web-0 '.items[] | select(.metadata.name==$n) | .status.phase'
    R- kubectl get pods -o json | jq --argjson n 3 '.items[$n]'
    R- kubectl get pods -o json | jq '.items[] | {env: .spec.containers[0].env}'
    R- kubectl get pods -o yaml | yq e '.items[].metadata.name' -
    R- kubectl get pods -o yaml | yq eval .items
    R- kubectl get pods -o name | paste -sd,
    R- kubectl get pods | column -t -s $'\t'
    R- kubectl logs web-0 | rg -i error
    R- kubectl get pods | tee /dev/null | head
    R- ns=prod; kubectl get pods -n $ns
    R- NS=prod && kubectl get pods -n "$NS" && kubectl get svc -n "${NS}"
    R- app='web'⏎kubectl get pods -l app=$app
    R- for ns in prod staging; do kubectl get pods -n $ns; done
    R- for ns in prod staging⏎do⏎  echo "== $ns"⏎  kubectl get pods -n $ns | grep -v Running⏎done
    R- for i in 1 2 3; do kubectl get pods; sleep 5; done; kubectl get svc
    RO for r in pods secrets; do kubectl get $r -o yaml; done
    R- (kubectl get pods; kubectl get svc) | grep web
    R- { kubectl get pods; kubectl get svc; } 2>/dev/null
    R- ! kubectl get pods | grep -q Error
    R- if kubectl get ns shop >/dev/null 2>&1; then kubectl get pods -n shop; else echo none; fi
    R- while kubectl get pods | grep -q Pending; do sleep 2; done
    R- until [ "$(kubectl get deploy web -o jsonpath='{.status.readyReplicas}')" = 3 ]; do sleep 2; done
    R- case "$(kubectl get pod web-0 -o jsonpath='{.status.phase}')" in Running) echo ok;; P*|F*) kubectl describe pod web-0;; esac
    R- for p in $(kubectl get pods -o name); do kubectl logs $p --tail=5; done
    R- for ns in $(kubectl get ns --no-headers | awk '{print $1}'); do kubectl -n $ns get pods; done
    R- for i in {1..5}; do kubectl top pods; sleep 1; done
    R- for ((i=0;i<3;i++)); do kubectl get pods; done
    R- kubectl get pods -A --no-headers | grep -v Running | while read -r ns pod rest; do kubectl -n "$ns" logs "$pod"; done
    R- while read -r p; do kubectl get "$p" -o yaml; done < <(kubectl get pods -o name)
    R- kubectl get pods -o name | xargs -n1 kubectl describe -n shop
    R- kubectl get pods -o name | xargs -I{} kubectl logs {} --tail=20
    R- kubectl get pods -o name | xargs -I{} sh -c 'kubectl logs {} | tail -5'
    R- kubectl get pods -o json | jq -r '.items[] | select(.status.phase=="Failed") | .metadata.name' | xargs -r kubectl describe pod
    R- kubectl get nodes -o name | sed 's|node/||' | xargs -n1 kubectl describe node
    R- POD=$(kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'); kubectl logs $POD
    R- kubectl describe node $(kubectl get pod web-0 -o jsonpath='{.spec.nodeName}')
    R- sel=$(kubectl get svc web -o jsonpath='{.spec.selector.app}'); kubectl get pods -l "app=$sel"
    R- x="$(kubectl get cm a -o jsonpath='{.data.x}')"; echo "$x"; kubectl get pods -n "$x"
    R- total=$(kubectl get pods | wc -l); echo $((total - 1))
    R- x=a; [[ $(kubectl get pods | wc -l) -gt 3 ]] && [[ "$x" != y ]] || kubectl get pods
    R- grep -c Running <<< "$(kubectl get pods)"
    R- diff <(kubectl get cm a -o yaml) <(kubectl get cm a -n pay -o yaml)
    R- cat <<EOF⏎pods: $(kubectl get pods | wc -l)⏎EOF
    RO cat <<'EOF' | kubectl diff -f -⏎kind: Pod⏎EOF
    R- show() { kubectl -n "$1" get pods; }; show shop; show pay
    R- p() { printf '\n### %s\n' "$*"; kubectl get "$@"; }; p pods -n shop
    R- rev=$(helm history web -o json | jq '.[-1].revision'); echo "before: $((rev - 1))"
    R- n=$(kubectl get deploy web -o json | jq .spec.replicas); [[ $n -gt 1 ]] && kubectl get pods
    R- p=pod/web-0; kubectl logs ${p##*/}
    R- timeout 60 bash -c 'until kubectl get pods; do sleep 2; done'
    R- watch -n 2 'kubectl get pods | grep -v Running'
    R- nice -n 10 env TZ=UTC kubectl get events
    R- command -v kubectl
    R- kubectl get pods | tee /dev/stderr | wc -l
    RV x=$(kubectl get secret db -o yaml); echo "$x" | grep password
    RV kubectl get secret db -o yaml | while read -r k v; do echo "$v"; done
    RO for s in $(kubectl get secrets -o name); do echo $s; done
    RV for k in $(kubectl api-resources -o name); do kubectl get $k -o jsonpath='{.items[*].data}'; done
"#;

const DRY_RUNS: &str = r#"
    R- kubectl delete pod web-0 --dry-run=server
    R- kubectl scale deploy/web --replicas=3 --dry-run=server
    R- kubectl create deployment web --image=nginx --dry-run=client -o yaml
    R- kubectl create ns test --dry-run=client
    R- kubectl run web --image=nginx --dry-run=client -o yaml
    R- kubectl run web --image=nginx --dry-run=client -o yaml -- sleep 1
    R- kubectl patch deploy web -p '{"spec":{"replicas":3}}' --dry-run=server
    R- kubectl patch deploy web -p '{"spec": {"replicas": -1}}' --dry-run=server -o yaml
    R- kubectl set image deploy/web app=nginx:1.27 --dry-run=server
    R- kubectl label pod web-0 a=b --dry-run=server
    R- kubectl drain n1 --ignore-daemonsets --dry-run=client
    R- kubectl rollout undo deploy/web --dry-run=server
    R- kubectl delete pod web-0 --dry-run=server --dry-run=client
    RO helm upgrade web ./chart --dry-run
    RO helm upgrade --install web ./chart -f values.yaml --set image.tag=2 --dry-run=server
    RO helm install web bitnami/nginx --dry-run=client
    RO helm rollback web 3 --dry-run
    RO helm uninstall web --dry-run
"#;

const HELM_AND_ARGOCD: &str = r"
    R- helm list
    R- helm ls -A -a
    R- helm -n prod list
    R- helm list --filter '^web' -o json
    R- helm --kube-context staging list
    R- helm status web
    R- helm status web --show-resources
    R- helm history web --max 5
    R- helm get notes web
    R- helm get metadata web -o yaml
    R- helm show values bitnami/nginx
    R- helm show chart ./chart
    R- helm inspect values ./chart
    R- helm search repo nginx --versions
    R- helm search hub nginx
    R- helm lint ./chart --strict
    R- helm version --short
    R- helm repo list
    R- helm dependency list ./chart
    R- helm dep list ./chart
    R- helm plugin list
    RO helm env
    RO helm template web ./chart -f values.yaml --include-crds
    RO helm diff upgrade web ./chart -f values.yaml
    RO helm diff revision web 2 3
    R- argocd app list
    R- argocd app list -o name -l team=web
    R- argocd app get web
    R- argocd app get web -o yaml --show-operation
    R- argocd app history web
    R- argocd app logs web -c app --tail 50
    R- argocd app resources web
    R- argocd app wait web --health --timeout 60
    R- argocd app actions list web --kind Deployment
    RO argocd app diff web
    RO argocd cluster list
    RO argocd repo list
    R- argocd proj list
    R- argocd proj get default
    R- argocd proj role list default
    R- argocd account get-user-info
    R- argocd account can-i sync applications '*'
    R- argocd version --client
    R- argocd --grpc-web app list
    R- argocd appset list
";
