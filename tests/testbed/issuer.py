"""An OIDC issuer for tests: discovery, keys and tokens by joserfc, which is not ours.

GET  /.well-known/openid-configuration, /jwks      what an issuer serves
POST /token  {"claims": {...}, "kid"?, "alg"?, "header"?, "forge"?}   a signed token
POST /rotate {"keep"?: bool}                       a new signing key; the old one stays listed if it is kept
GET  /authorize, POST /register, /oauth/token      the code flow of OAuth, with a user who agrees at once
GET  /count                                        how often the keys were asked for
"""

import hashlib
import hmac
import json
import sys
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

KEYS = []
COUNT = 0
CODES = {}


def part(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def rotate(keep):
    if not keep:
        KEYS.clear()
    number = str(time.monotonic_ns())
    KEYS.append(RSAKey.generate_key(2048, {"kid": "rsa-" + number, "use": "sig"}))
    KEYS.append(ECKey.generate_key("P-256", {"kid": "ec-" + number, "use": "sig", "alg": "ES256"}))


def token(base, ask):
    alg = ask.get("alg", "RS256")
    kind = "EC" if alg.startswith("ES") else "RSA"
    key = [k for k in KEYS if k.key_type == kind][-1]
    header = {"alg": alg, "kid": key.as_dict()["kid"]}
    forge = ask.get("forge")
    if forge == "other_key":
        key = RSAKey.generate_key(2048)
    header.update(ask.get("header", {}))
    if "kid" in header and header["kid"] is None:
        del header["kid"]
    now = int(time.time())
    claims = {"iss": base, "aud": "k8sops", "sub": "anna", "iat": now, "exp": now + 600}
    claims.update(ask.get("claims", {}))
    claims = {k: v for k, v in claims.items() if v is not None}
    # joserfc makes none of these, and rightly so.
    if forge == "none":
        return part(json.dumps({"alg": "none"}).encode()) + "." + part(json.dumps(claims).encode()) + "."
    if forge == "critical":
        header["crit"] = ["exp"]
        signed = part(json.dumps(header).encode()) + "." + part(json.dumps(claims).encode())
        return signed + "." + part(key.private_key.sign(signed.encode(), PKCS1v15(), SHA256()))
    if forge == "public_key_as_secret":
        signed = part(json.dumps(header).encode()) + "." + part(json.dumps(claims).encode())
        secret = key.as_pem(private=False)
        return signed + "." + part(hmac.new(secret, signed.encode(), hashlib.sha256).digest())
    return jwt.encode(header, claims, key, algorithms=[alg])


def metadata(base):
    return {
        "issuer": base,
        "jwks_uri": base + "/jwks",
        "authorization_endpoint": base + "/authorize",
        "token_endpoint": base + "/oauth/token",
        "registration_endpoint": base + "/register",
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
    }


class Handler(BaseHTTPRequestHandler):
    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        global COUNT
        path, _, query = self.path.partition("?")
        if path in ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"):
            self.answer(metadata(BASE))
        elif path == "/authorize":
            # A user who agrees at once.
            ask = {name: values[0] for name, values in parse_qs(query).items()}
            CODES["code"] = ask["code_challenge"]
            self.send_response(302)
            self.send_header("location", ask["redirect_uri"] + "?" + urlencode({"code": "code", "state": ask["state"]}))
            self.send_header("content-length", "0")
            self.end_headers()
        elif self.path == "/jwks":
            COUNT += 1
            unknown = {"kty": "PQC", "kid": "new", "alg": "ML-DSA-65", "pub": "AA"}
            self.answer({"keys": [unknown] + [key.as_dict(private=False) for key in KEYS]})
        elif self.path == "/count":
            self.answer(COUNT)
        else:
            self.answer({}, 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/oauth/token":
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            if part(hashlib.sha256(form["code_verifier"].encode()).digest()) != CODES.pop(form["code"], None):
                self.answer({"error": "invalid_grant"}, 400)
                return
            signed = token(BASE, {"claims": {"realm_access": {"roles": ["user"]}}})
            self.answer({"access_token": signed, "token_type": "Bearer", "expires_in": 600})
            return
        ask = json.loads(body or b"{}")
        if self.path == "/register":
            self.answer({"client_id": "host", "token_endpoint_auth_method": "none", **ask}, 201)
        elif self.path == "/rotate":
            rotate(ask.get("keep", False))
            self.answer({})
        else:
            self.answer(token(BASE, ask))

    def log_message(self, *_):
        pass


rotate(False)
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
BASE = f"http://127.0.0.1:{server.server_address[1]}"
print(f"listening on {BASE}", flush=True)
server.serve_forever()
