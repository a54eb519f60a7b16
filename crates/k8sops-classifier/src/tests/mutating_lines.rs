//! Lines that change something, or that different readers understand differently.

use super::{assert_classes, classify_line};
use crate::EffectClass;

#[test]
fn kubectl_writes_are_mutating() {
    assert_classes(KUBECTL);
}

#[test]
fn ambiguous_reads_are_mutating() {
    assert_classes(AMBIGUOUS);
}

#[test]
fn uncertain_dry_runs_are_mutating() {
    assert_classes(NOT_DRY);
}

#[test]
fn unsupported_shell_syntax_is_mutating() {
    assert_classes(SHELL);
}

#[test]
fn reading_files_of_the_machine_is_mutating() {
    assert_classes(FILES);
}

#[test]
fn helm_and_argocd_writes_are_mutating() {
    assert_classes(HELM_AND_ARGOCD);
}

#[test]
fn lookalike_characters_are_mutating() {
    let lines = [
        "kubectl get\u{200b} pods",
        "kubectl\u{a0}get pods",
        "kube\u{441}tl get pods",
        "kubectl g\u{435}t pods",
        "kubectl get pods \"\u{202e}\"",
        "kubectl get pods \"\u{feff}\"",
        "kubectl get pods \u{2013}n x",
        "kubectl get pods\r -A",
        "kubectl get pods\0",
        "kubectl get pods \"\u{1b}[2J\"",
        "kubectl get pods \u{2028}kubectl delete pod x",
    ];
    for text in lines {
        assert_eq!(classify_line(text).effect, EffectClass::Mutating, "{text:?}");
    }
}

const KUBECTL: &str = r#"
    M- kubectl apply -f deploy.yaml
    M- kubectl apply -k overlays/prod
    M- kubectl -n prod apply -f -
    M- kubectl apply edit-last-applied deploy/web
    M- kubectl apply set-last-applied -f deploy.yaml
    M- kubectl create -f deploy.yaml
    M- kubectl create deployment web --image=nginx
    M- kubectl create secret generic db --from-literal=password=x
    MV kubectl create token admin
    MV kubectl create token admin -n kube-system --duration=24h
    M- kubectl delete pod web-0
    M- kubectl delete pods --all -n prod
    M- kubectl delete ns prod --grace-period=0 --force
    M- kubectl delete -f deploy.yaml
    M- kubectl -n prod delete deploy web
    M- kubectl edit deploy web
    MO kubectl edit secret db
    M- kubectl patch deploy web -p '{"spec":{"replicas":3}}'
    M- kubectl replace --force -f deploy.yaml
    M- kubectl scale deploy web --replicas=0
    M- kubectl scale --replicas=3 deploy/web
    M- kubectl autoscale deploy web --min=1 --max=5
    M- kubectl rollout restart deploy/web
    M- kubectl rollout restart deploy -n prod
    M- kubectl rollout undo deploy/web
    M- kubectl rollout pause deploy/web
    M- kubectl rollout resume deploy/web
    M- kubectl set image deploy/web app=nginx:1.27
    M- kubectl set env deploy/web A=b
    M- kubectl label pod web-0 a=b
    M- kubectl annotate pod web-0 a=b --overwrite
    M- kubectl taint nodes n1 k=v:NoSchedule
    M- kubectl cordon n1
    M- kubectl uncordon n1
    M- kubectl drain n1 --ignore-daemonsets
    M- kubectl expose deploy web --port=80
    M- kubectl run web --image=nginx
    M- kubectl run -it --rm debug --image=busybox -- sh
    M- kubectl exec web-0 -- ls
    M- kubectl exec -it web-0 -- sh
    MV kubectl exec web-0 -- cat /var/run/secrets/kubernetes.io/serviceaccount/token
    MV vault kv get -field=password kv/shop
    MO vault kv get kv/shop
    MV aws secretsmanager get-secret-value --secret-id shop --query SecretString --output text
    MO aws secretsmanager get-secret-value --secret-id shop
    MO aws ssm get-parameter --name /shop/db --with-decryption
    MV gcloud secrets versions access latest --secret=shop
    MV az keyvault secret show --vault-name kv --name db --query value -o tsv
    MV aws ecr get-login-password
    MV op read op://prod/db/password
    MO argocd admin initial-password -n argocd
    M- kubectl cp web-0:/etc/passwd ./passwd
    M- kubectl port-forward svc/web 8080:80
    M- kubectl proxy --port=8001
    M- kubectl attach web-0 -i
    M- kubectl debug node/n1 -it --image=busybox
    M- kubectl certificate approve csr-1
    M- kubectl auth reconcile -f rbac.yaml
    M- kubectl config use-context prod
    M- kubectl config set-context --current --namespace=prod
    M- kubectl config set-credentials admin --token=x
    M- kubectl config delete-context prod
    M- kubectl kuberc set --section defaults
    M- kubectl alpha debug web-0
    M- kubectl neat
    M- kubectl krew install neat
    M- kubectl argo rollouts promote web
"#;

const AMBIGUOUS: &str = r#"
    M- kubectl Get pods
    M- kubectl gets pods
    M- kubectl get-all
    M- kubectl "get" pods
    M- kubectl g\et pods
    M- kubectl -- get pods
    M- kubectl --as=admin get pods
    M- kubectl --as admin get pods
    M- kubectl get pods --as system:admin
    M- kubectl get pods --as-group=system:masters
    M- kubectl --kubeconfig=/tmp/k get pods
    M- kubectl get pods --kubeconfig /tmp/k
    M- kubectl -s https://evil.example get pods
    M- kubectl get pods --server=https://evil.example
    M- kubectl --token=abc get pods
    M- kubectl get pods --user=admin
    M- kubectl get pods --cluster=other
    M- kubectl get pods --insecure-skip-tls-verify
    M- kubectl --unknown get pods
    M- kubectl --unknown x get pods
    M- kubectl -o yaml get pods
    M- kubectl get pods --unknown
    M- kubectl get pods -Z
    M- kubectl get pods --profile=cpu --profile-output=/tmp/x
    M- kubectl get pods --cache-dir=/tmp/x
    M- kubectl get pods --kuberc=/tmp/x
    M- kubectl get pods -n --dry-run
    M- kubectl -n "x delete pods y" get pods
    M- kubectl get pods -l "a --server=http://evil b"
    M- kubectl get pods -o go-template-file=/etc/passwd
    M- kubectl get pods -o jsonpath-file=/tmp/x
    MO kubectl get -f https://example.com/pod.yaml
    MO kubectl diff -f https://example.com/pod.yaml
    MO kubectl kustomize https://github.com/x/y
    MO kubectl kustomize github.com/x/y/overlays
    M- kubectl kustomize --enable-helm overlays/prod
    M- kubectl kustomize overlays/prod -o out.yaml
    M- kubectl get --raw /api/v1/namespaces/d/services/web/proxy/shutdown
    M- kubectl get --raw /api/v1/namespaces/d/pods/web-0/exec?command=id
    M- kubectl get --raw /api/v1/nodes/n1/proxy/run/d/web-0/app
    M- kubectl get --raw /api/v1/nodes/n1/proxy/../x
    MO kubectl get --raw /api/v1/%73ecrets
    M- kubectl get --raw https://evil.example/
    M- kubectl cluster-info dump --output-directory=/tmp/x
    M- kubectl rollout
    M- kubectl rollout --watch status deploy/web
    M- kubectl auth
    M- kubectl config
    M- kubectl config --kubeconfig=x view
    M- kubectl exec web-0 -- kubectl get pods
    M- kubectl exec web-0 --help
    M- kubectl set env deploy/web --list
    M- ./kubectl get pods
    M- kubectl.sh get pods
    M- /tmp/kubectl get pods
    M- kubectl2 get pods
    M- k get pods
    M- oc get pods
    M- kubectl logs web-0 -o x
    M- kubectl create -R token admin -f x --dry-run=client
"#;

const NOT_DRY: &str = r#"
    M- kubectl apply -f d.yaml --dry-run=none
    M- kubectl apply -f d.yaml --dry-run=false
    M- kubectl apply -f d.yaml --dry-run=true
    M- kubectl apply -f d.yaml --dry-run=Server
    M- kubectl apply -f d.yaml --dry-run=server --dry-run=none
    M- kubectl apply -f d.yaml --dry-run=none --dry-run=server
    M- kubectl delete pod web-0 -- --dry-run=server
    M- kubectl delete pod web-0 "--dry-run=server"
    M- kubectl delete pod web-0 --dry-run="server"
    M- kubectl delete pod web-0 '--dry-run'=server
    M- kubectl delete pod web-0 --dry\-run=server
    M- kubectl delete pod web-0 \⏎--dry-run=server
    M- kubectl delete pod web-0 --dryrun=server
    M- kubectl delete pod web-0 --dry_run=server
    M- kubectl delete pod web-0 -dry-run=server
    M- kubectl delete pod web-0 -l --dry-run=server
    M- kubectl delete pod web-0 --selector --dry-run=server
    M- kubectl delete pod web-0 --dry-run=server; echo --dry-run=none
    M- kubectl delete pod web-0 --dry-run=server -l "x --dry-run=none y"
    M- kubectl delete pod web-0 --dry-run=server -l "x -- y"
    M- kubectl delete --raw /api/v1/namespaces/d/pods/web-0 --dry-run=server
    M- kubectl create --raw /apis/x -f d.json --dry-run=server
    M- kubectl create -f d.yaml --edit --dry-run=client
    M- kubectl replace --force -f d.yaml --dry-run=server
    M- kubectl run web -it --image=nginx --dry-run=client
    M- kubectl exec web-0 --dry-run=server -- ls
    M- kubectl rollout restart deploy/web --dry-run=server
    MV kubectl create token admin --dry-run=client
    M- kubectl certificate approve c --dry-run=server
    M- kubectl cp a b --dry-run=server
    M- kubectl apply -f https://example.com/d.yaml --dry-run=server
    M- kubectl delete pod web-0 #--dry-run=server
    M- kubectl delete pod web-0 # --dry-run=server
    MO helm upgrade web ./chart --dry-run=none
    MO helm upgrade web ./chart --dry-run=false
    MO helm upgrade web ./chart -- --dry-run
    M- helm upgrade web ./chart --dry-run --post-renderer ./x
    M- helm upgrade web ./chart --dry-run --dependency-update
    M- helm test web --dry-run
"#;

const SHELL: &str = r#"
    M- kubectl get pods $(kubectl delete pod web-0)
    M- kubectl get pods `kubectl delete pod web-0`
    M- kubectl get pods "$(kubectl delete pod web-0)"
    M- kubectl get pods -n $NS
    M- kubectl get pods -n "${NS}"
    M- $KUBECTL get pods
    M- kubectl $VERB pods
    M- kubectl get pods > pods.txt
    M- kubectl get pods >> pods.txt
    M- kubectl get pods 2>err.txt
    M- kubectl get pods >/dev/nullx
    M- kubectl get pods >| x
    M- kubectl get pods < input
    M- kubectl get pods <(cat x)
    M- kubectl apply -f - <<EOF⏎kind: Pod⏎EOF
    M- kubectl apply -f - <<< x
    M- kubectl get pods | xargs kubectl delete pod
    M- kubectl get pods | sh
    M- kubectl get pods | bash -s
    M- kubectl get pods | tee out.txt
    M- kubectl get pods | kubectl delete -f -
    M- kubectl get pods && kubectl delete pod web-0
    M- kubectl get pods || kubectl delete pod web-0
    M- kubectl get pods; kubectl delete pod web-0
    M- kubectl get pods & kubectl delete pod web-0
    M- kubectl get pods⏎kubectl delete pod web-0
    M- kubectl get pods |& tee x
    M- kubectl get pods |&
    M- kubectl get pods | grep x file.txt
    M- kubectl get pods | grep -r x
    M- kubectl get pods | grep -f /etc/passwd
    M- kubectl get pods | sort -o /etc/passwd
    M- kubectl get pods | sort --output=x
    M- kubectl get pods | sort --compress-program=./x
    M- kubectl get pods | uniq - out.txt x
    M- kubectl get pods | awk '{system("kubectl delete pod " $1)}'
    M- kubectl get pods | awk '{print $1 > "x"}'
    M- kubectl get pods | awk '{print | "sh"}'
    M- kubectl get pods | awk 'BEGIN{while((getline l < "/etc/passwd")>0) print l}'
    M- kubectl get pods | awk -f x.awk
    M- kubectl get pods | sed -i s/a/b/ file
    M- kubectl get pods | sed 's/a/b/e'
    M- kubectl get pods | sed 's/a/b/w out'
    M- kubectl get pods | sed -n '1e id'
    M- kubectl get pods -o json | jq -n env
    M- kubectl get pods -o json | jq '$ENV.TOKEN'
    M- kubectl get pods -o json | jq -f prog.jq
    M- kubectl get pods -o yaml | yq -i .x
    M- kubectl get pods -o yaml | yq 'load("/etc/passwd")'
    MV cat /var/run/secrets/kubernetes.io/serviceaccount/token
    M- head -n 5 /etc/passwd
    M- cat deploy.yaml | kubectl apply -f -
    M- sudo kubectl get pods
    M- KUBECONFIG=/tmp/k kubectl get pods
    M- eval kubectl get pods
    M- exec kubectl get pods
    M- bash -c "kubectl delete pod x"
    M- bash -c "kubectl get pods; rm x"
    M- bash -c 'kubectl delete pod x --dry-run=server'
    M- bash -c 'kubectl get pods -n $0' delete
    M- bash -x run.sh
    M- bash --rcfile x -c "kubectl get pods"
    M- bash
    M- set -o pipefail x; kubectl get pods
    M- set -k; kubectl get pods
    M- PATH=/tmp kubectl get pods
    M- LANG=C rm x
    M- nohup kubectl get pods
    M- kubectl get {pods,svc}
    M- kubectl {get,delete} pods
    M- kubectl get pods *
    M- kubectl get p?ds
    M- kubectl get pods ~
    M- kubectl get pods # it's
    M- kubectl get pods # --server=evil
    M- # look⏎kubectl delete pod x
    M- kubectl delete pod x # kubectl get pods
    M- kubectl get pods $?; rm x
    M- kubectl get pods | less +!id
    M- kubectl get pods | tee /dev/null x
    M- ns=prod; kubectl delete pod -n $ns x
    M- x=--as=admin; kubectl get pods $x
    M- true || ns=x; kubectl -n $ns get delete pod y
    M- false && ns=x; kubectl -n $ns get delete pod y
    M- ns=x & kubectl -n $ns get pods
    M- ns=x | cat; kubectl -n $ns get pods
    M- ns=prod kubectl get pods -n $ns
    M- path=x; kubectl get pods
    M- n=delete; kubectl $n pod x
    M- x=as; kubectl get pods --$x=admin
    M- x=a; unset x; kubectl get pods -n $x
    M- x=a; bash -c 'kubectl get pods -n $x'
    M- x=A; for i in 1; do x=shttp; kubectl get pods -$x; done
    M- n=a; for i in 1 2; do kubectl get pods -$n; n=shttp; done
    M- for p in a b; do kubectl delete pod $p; done
    M- for v in get delete; do kubectl $v pods; done
    M- for x in a as; do kubectl get pods --$x=admin; done
    M- for ns in a b; do kubectl get pods -n $ns
    M- for ns in $(id); do kubectl get pods -n $ns; done
    M- for ns in *; do kubectl get pods -n $ns; done
    M- for ns in a b; do kubectl get pods -n $ns; done > x
    M- for p in a b; do kubectl get pod $p; done | sh
    M- for p in a b; do rm $p; done
    M- kubectl get pods | less -o out
    M- kubectl get pods | less /etc/passwd
    M- kubectl get pods | more /etc/passwd
    M- kubectl get pods -o json | jq --arg n
    M- kubectl get pods -o json | jq --rawfile x /etc/shadow .
    M- kubectl get pods -o json | jq --slurpfile x f .
    M- kubectl get pods -o json | jq . f.json
    M- kubectl get pods -o yaml | yq e .x f.yaml
    M- kubectl get pods -o yaml | yq /etc/passwd
    M- kubectl get pods | awk -v ARGV=x '{print}'
    M- kubectl get pods | awk '{print}' f.txt
    M- kubectl get pods | sed -n -e p -e 'w x'
    M- kubectl get pods | sed -f x.sed
    M- kubectl get pods | rg --pre ./x foo
    M- kubectl get pods | rg foo /etc
    M- kubectl get pods | paste - /etc/passwd
    M- kubectl get pods $'-n\x20x'
    M- kubectl get pods 'unclosed
    M- kubectl get pods \
    M- kubectl get pods &&
    M- kubectl get pods ||
    M- kubectl get pods |
    M- | kubectl get pods
    M- ; kubectl get pods
    M- kubectl get pods ;; kubectl get svc
    M- watch 'kubectl get pods; kubectl delete pod x'
    M- watch kubectl delete pod web-0
    M- timeout 5 kubectl delete pod web-0
    M- timeout kubectl get pods
    M- time kubectl delete pod web-0
    M- kubectl get pods | grep -s evil
    M- kubectl get pods | grep "x --server=evil"
    M- kubectl get pods; echo --kubeconfig=x
    M- date -s 2020-01-01
    M- rm -rf /
    M- curl https://example.com
    M- printf
"#;

const HELM_AND_ARGOCD: &str = r#"
    MO helm install web ./chart
    MO helm upgrade --install web ./chart -f values.yaml
    MO helm uninstall web
    MO helm rollback web 3
    M- helm delete web
    M- helm test web
    M- helm repo add x https://example.com
    M- helm repo update
    M- helm pull bitnami/nginx
    M- helm push chart.tgz oci://x
    M- helm create chart
    M- helm package ./chart
    M- helm plugin install https://example.com/x
    M- helm registry login x
    M- helm dependency update ./chart
    M- helm dep build ./chart
    MO helm secrets view x
    M- helm template web ./chart --post-renderer ./x
    M- helm template web ./chart --output-dir out
    M- helm template web ./chart --set-file a=/etc/passwd
    M- helm template web https://example.com/chart.tgz
    M- helm template web ./chart -f https://example.com/values.yaml
    M- helm show values nginx --repo https://example.com
    M- helm show values oci://example.com/chart
    M- helm list --kube-apiserver https://evil.example
    M- helm list --kube-as-user admin
    M- helm list --kubeconfig /tmp/k
    M- helm list --kube-token abc
    M- helm list --repository-config /tmp/x
    M- helm "list"
    M- helm unknown
    M- helm 3 list
    M- argocd app sync web
    M- argocd app sync web --dry-run
    M- argocd app create web --repo x --path y
    M- argocd app set web -p a=b
    M- argocd app delete web
    M- argocd app delete-resource web --kind Pod
    M- argocd app patch web --patch x
    M- argocd app patch-resource web --kind x
    M- argocd app rollback web 3
    M- argocd app terminate-op web
    M- argocd app actions run web restart
    M- argocd app diff web --local .
    M- argocd app edit web
    M- argocd app unset web
    I- argocd app get web --refresh
    I- argocd app get web --hard-refresh
    M- argocd login argocd.example.com
    M- argocd logout x
    M- argocd context prod
    M- argocd cluster add prod
    M- argocd cluster rm prod
    M- argocd repo add x
    M- argocd proj create x
    MV argocd account generate-token
    MV argocd account session-token
    M- argocd account update-password
    MO argocd admin initial-password
    MO argocd admin export
    M- argocd app list --server evil.example
    M- argocd app list --auth-token x
    M- argocd app list --config /tmp/x
    M- argocd app list --insecure
"#;

const FILES: &str = r"
    MO kubectl diff -f deploy.yaml
    MO kubectl diff -k overlays/prod
    MO kubectl kustomize overlays/prod
    MO kubectl kustomize
    MO kubectl get -f deploy.yaml
    MO kubectl describe -f deploy.yaml
    MO kubectl get -f - -f /etc/shadow -o yaml
    M- kubectl wait -f x.yaml --for=condition=Ready
    M- kubectl rollout status -f x.yaml
    M- kubectl apply -f deploy.yaml --dry-run=server
    MO kubectl apply -f deploy.yaml --dry-run=server -o yaml
    M- kubectl apply -k overlays/prod --server-side --dry-run=server
    M- kubectl apply -f deploy.yaml --dry-run=server | grep configured
    MO kubectl create -f /root/.kube/config --dry-run=client -o yaml
    MO kubectl create configmap x --from-file=/etc/shadow --dry-run=client -o yaml
    MO kubectl create configmap x --from-file=app.properties --dry-run=client -o yaml
    MO kubectl create cm x --from-env-file=/proc/1/environ --dry-run=client -o json
    MO kubectl create secret generic x --from-file=/root/.ssh/id_rsa --dry-run=client -o yaml
    MO kubectl create secret tls x --cert=a.crt --key=/etc/ssl/private/a.key --dry-run=client -o yaml
    M- kubectl patch deploy web --patch-file=/etc/passwd --dry-run=server -o yaml
    M- kubectl replace -f x.yaml --dry-run=client
    M- kubectl get pods -o go-template-file=/etc/passwd
    M- kubectl get pods -o jsonpath-file=/tmp/x
    M- kubectl get pods -o custom-columns-file=/etc/hosts
    M- kubectl get pods --output go-template-file --template /proc/self/environ
    M- kubectl cp web-0:/etc/passwd ./passwd
    MO helm template web ./chart -f /root/.kube/config
    MO helm template web ./chart -f ../values.yaml
    MO helm template web ./chart -f secrets.yaml
    MO helm template web ./chart -f a.yaml,/etc/x.yaml
    MO helm template web /srv/chart
    M- helm lint ./chart --values /srv/values.yaml
    M- helm upgrade web ./chart --dry-run -f ~/v.yaml
    M- helm template web ./chart --set-file a=values.yaml
    MO helm diff upgrade web ./chart -f /etc/x.yaml
    M- argocd app diff web --local .
";
