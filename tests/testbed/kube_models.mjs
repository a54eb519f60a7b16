// Holds objects that are not Kubernetes' own (a JSON array on standard input) against the schemas of their makers.
//
//   node kube_models.mjs NODE_MODULES < objects.json
import { pathToFileURL } from "node:url";

const files = {
  "gateway.networking.k8s.io/v1/HTTPRoute": "gateway-api/gateway.networking.k8s.io/v1/HTTPRoute.js",
  "monitoring.coreos.com/v1/ServiceMonitor": "prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor.js",
};
let text = "";
for await (const piece of process.stdin) text += piece;
for (const object of JSON.parse(text)) {
  const file = files[`${object.apiVersion}/${object.kind}`];
  if (!file) continue;
  const module = await import(pathToFileURL(`${process.argv[2]}/@kubernetes-models/${file}`));
  new module[object.kind](object).validate();
  console.log(`${object.kind} is valid`);
}
