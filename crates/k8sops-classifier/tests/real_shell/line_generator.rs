//! Random command lines: commands, filters and joints of a grammar, with changes of single characters.

use std::path::PathBuf;

use crate::script_shapes::{SHAPES, USES, VALUES};

const COMMANDS: &[&str] = &[
    "kubectl get pods",
    "kubectl get pods -A -o wide",
    "kubectl -n prod get deploy web -o yaml",
    "kubectl describe pod web-0 -n delete",
    "kubectl logs web-0 --tail=20",
    "kubectl get pods -o json",
    "kubectl get pods -l 'app in (web, api)'",
    "kubectl get pods -o jsonpath='{.items[*].metadata.name}'",
    "kubectl rollout status deploy/web",
    "kubectl top pods",
    "kubectl config view",
    "kubectl delete pod x --dry-run=server",
    "kubectl scale deploy web --replicas=3 --dry-run=client",
    "kubectl create deployment web --image=nginx --dry-run=client -o yaml",
    "helm list -A",
    "helm get values web",
    "helm template web ./chart -f values.yaml",
    "helm upgrade web ./chart --dry-run",
    "argocd app list",
    "argocd app get web",
    "echo '--- pods ---'",
    "echo done",
    "true",
    "date +%s",
    "bash -c 'kubectl get pods'",
    "bash -c \"kubectl get pods | grep x\"",
    "LC_ALL=C kubectl get pods",
    "timeout 5 kubectl get pods",
    "time kubectl get pods",
    "ns=prod; kubectl get pods -n $ns",
    "app=web && kubectl get pods -l app=$app",
    "NS=prod\nkubectl -n \"${NS}\" get pods",
    "for p in a b; do kubectl get pod $p; done",
    "for ns in a b; do echo $ns; kubectl -n $ns get pods | grep web; done",
];
const HARMFUL_COMMANDS: &[&str] = &[
    "kubectl delete pod web-0",
    "kubectl apply -f deploy.yaml",
    "kubectl scale deploy web --replicas=0",
    "kubectl rollout restart deploy/web",
    "kubectl config use-context prod",
    "kubectl exec web-0 -- ls",
    "kubectl create token admin",
    "kubectl get pods --as=admin",
    "kubectl create cm x --from-file=secret.txt --dry-run=client",
    "helm uninstall web",
    "helm upgrade web ./chart",
    "argocd app sync web",
    "rm x",
    "touch new",
    "cat secret.txt",
    "cat DIR/secret.txt",
    "env",
    "evil",
    "PATH=/tmp kubectl get pods",
    "bash -c 'kubectl delete pod x'",
    "bash f",
    "eval kubectl delete pod x",
    "source f",
    "for p in a b; do kubectl delete pod $p; done",
    "x=A; for i in 1; do x=shttp; kubectl get pods -$x; done",
    "false && n=x; kubectl -n $n get delete pod y",
    "n=x & kubectl -n $n get delete pod y",
    "true || ns=x; kubectl -n $ns get delete pod y",
];
const FILTERS: &[&str] = &[
    "grep web",
    "grep -v Running",
    "grep -E 'a|b'",
    "grep \"web-[0-9]*\"",
    "awk '{print $1}'",
    "awk 'NR>1 && $5>3 {print $2,$5}'",
    "awk -F: '{print $1\"\\t\"$2}'",
    "sed -n '/Events:/,$p'",
    "sed 's/a/b/g'",
    "sed -e 1d -e 's|x|y|'",
    "sort -rn",
    "sort -k2 -t:",
    "uniq -c",
    "head -5",
    "tail -n +2",
    "wc -l",
    "cut -d' ' -f1",
    "tr -s ' '",
    "column -t -s $'\\t'",
    "jq .",
    "jq -r '.items[] | .a'",
    "jq --arg n web '.items[] | select(.a==$n)'",
    "yq e '.a' -",
    "yq .a",
    "less",
    "more",
    "paste -sd,",
    "cat",
    "base64 -d",
    "nl",
    "tac",
];
const HARMFUL_FILTERS: &[&str] = &[
    "tee new",
    "xargs rm",
    "sh",
    "bash",
    "grep x secret.txt",
    "awk '{print > \"new\"}'",
    "awk '{system(\"evil\")}'",
    "awk '{print | \"evil\"}'",
    "awk '{print ENVIRON[\"CANARY\"]}'",
    "awk '{getline x < \"secret.txt\"; print x}'",
    "awk '{print}' secret.txt",
    "sed 'w new'",
    "sed '1e evil'",
    "sed 's/a/evil/e'",
    "sed 'r secret.txt'",
    "sed -n p secret.txt",
    "sed -i s/a/b/ f",
    "sort -o new",
    "uniq - new",
    "jq -n env",
    "jq -n '$ENV.CANARY'",
    "jq . secret.txt",
    "jq -rR . secret.txt",
    "yq secret.txt",
    "cat secret.txt",
    "head secret.txt",
    "tail -f DIR/f",
    "less secret.txt",
    "kubectl apply -f -",
];
const JOINTS: &[&str] = &["; ", " && ", " || ", "\n", " & ", " ;", "\r\n", "; # x\n"];
const STARTS: &[&str] =
    &["# look at the pods\n", "# it's here\n", "set -o pipefail; ", "set -euo pipefail\n", "\n", "export X=1; "];
const TAILS: &[&str] = &[
    "\r",
    " # done",
    " 2>&1",
    " 2>/dev/null",
    " >/dev/null",
    " > new",
    " >> f",
    " 2> new",
    " < secret.txt",
    " &> new",
    "; echo $?",
    " &",
    " # it's",
];
const SNIPPETS: &[&str] = &[
    "'",
    "\"",
    "\\",
    "$",
    "`",
    "(",
    ")",
    "<",
    ">",
    "|",
    "&",
    ";",
    "#",
    "\n",
    "\r",
    " ",
    "{",
    "}",
    "*",
    "~",
    "!",
    "=",
    "[",
    "]",
    "?",
    "$(evil)",
    "`evil`",
    "${CANARY}",
    "$CANARY",
    "$'\\n'",
    "$?",
    " -f ",
    " f",
    "|&",
    ">|",
    "<(",
    "\\\n",
    " -- ",
    "--as=x",
    "$ns",
    "${p}",
    "ns=",
    "for x in a b; do ",
    "; done",
    " do ",
    "n=delete; ",
    "x=--server=http://evil; ",
    "(",
    "{ ",
    "; }",
    "if true; then ",
    "; fi",
    " <<< x",
    " <<EOF\n",
    "\nEOF\n",
    "$((",
    "))",
    "[[ ",
    " ]]",
    "${x#",
    " | xargs ",
    " | while read p; do ",
    "break; ",
    ";; ",
    "$1",
    "! ",
    " $n ",
    " evil",
    "\t",
];
const AWK_PIECES: &[&str] = &[
    "print", " ", "$1", ">", "\"new\"", "|", "\"evil\"", "/", "(", ")", "{", "}", ";", "getline", "system(", "\"",
    "NR", "==", "length", "[", "]", "\\", "\n", ",", "if", "x++", "/a/", "printf", "\"a\"", " ", "&&", "||", "x", "=",
    "1", "-", "while", "!", "~", "in", "#", "?", ":", "BEGIN", "END", "ENVIRON",
];
const SED_PIECES: &[&str] = &[
    "s",
    "/",
    "a",
    "b",
    "e",
    "w new",
    "p",
    ";",
    "1",
    "$",
    ",",
    "[",
    "]",
    "^",
    "\\",
    "}",
    "{",
    "y",
    "|",
    "#",
    "r secret.txt",
    "e evil",
    "\n",
    "I",
    "g",
    "s/a/b/",
    "/x/",
    "d",
    "q",
    " ",
    "!",
    ":",
    "n",
    "[:",
    ":]",
    "+",
    "~",
    "=",
    "M",
];
const JQ_PIECES: &[&str] = &[
    ".",
    "env",
    "$ENV",
    "\"",
    "\\(",
    "(",
    ")",
    "|",
    "input_filename",
    "{",
    "}",
    ":",
    "a",
    "#",
    "\\",
    "..",
    "[",
    "]",
    ",",
    " ",
    "import",
    "include",
    "\"m\"",
    "env.CANARY",
    "$__prog_args",
    "@base64",
    "select",
    "==",
    "1",
    ".env",
    "env:",
    "::",
    "\n",
];

/// Makes lines from a seed.
pub(crate) struct LineGenerator {
    state: u64,
    work_dir: PathBuf,
}

impl LineGenerator {
    pub(crate) fn new(seed: u64, work_dir: PathBuf) -> Self {
        Self { state: seed, work_dir }
    }

    /// Returns a number below `bound` (SplitMix64).
    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn is_chosen(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick(&mut self, texts: &[&'static str]) -> &'static str {
        texts[self.below(texts.len())]
    }

    fn program_of(&mut self, pieces: &[&'static str]) -> String {
        let count = 1 + self.below(9);
        (0..count).map(|_| self.pick(pieces)).collect::<String>().replace('\'', "")
    }

    fn filter(&mut self) -> String {
        match self.below(100) {
            0..60 => self.pick(FILTERS).to_owned(),
            60..72 => self.pick(HARMFUL_FILTERS).to_owned(),
            72..84 => format!("awk '{}'", self.program_of(AWK_PIECES)),
            84..92 => format!("sed -n '{}'", self.program_of(SED_PIECES)),
            92..97 => format!("jq -r '{}'", self.program_of(JQ_PIECES)),
            _ => format!("yq '{}'", self.program_of(JQ_PIECES)),
        }
    }

    fn pipeline(&mut self) -> String {
        let is_harmful = self.is_chosen(8);
        let mut line = self.pick(if is_harmful { HARMFUL_COMMANDS } else { COMMANDS }).to_owned();
        for _ in 0..self.below(3) {
            line.push_str(if self.is_chosen(10) { " |& " } else { " | " });
            line.push_str(&self.filter());
        }
        line
    }

    /// Fills in a shape.
    fn shape(&mut self) -> String {
        let mut line = self.pick(SHAPES).to_owned();
        for letter in ["C", "V", "U", "F"] {
            let mut filled = String::new();
            let mut rest = line.as_str();
            while let Some((at, _)) = rest.match_indices(letter).find(|(at, _)| is_alone(rest, *at)) {
                filled.push_str(&rest[..at]);
                let is_harmful = self.is_chosen(5);
                filled.push_str(match letter {
                    "C" => self.pick(if is_harmful { HARMFUL_COMMANDS } else { COMMANDS }),
                    "V" => self.pick(VALUES),
                    "U" => self.pick(USES),
                    _ => self.pick(if is_harmful { HARMFUL_FILTERS } else { FILTERS }),
                });
                rest = &rest[at + 1..];
            }
            filled.push_str(rest);
            line = filled;
        }
        line
    }

    /// Returns the next line.
    pub(crate) fn next_line(&mut self) -> String {
        if self.is_chosen(55) {
            let mut line = self.shape();
            if self.is_chosen(15) {
                line.push_str(self.pick(JOINTS));
                line.push_str(&self.shape());
            }
            while self.is_chosen(25) {
                self.change_line(&mut line);
            }
            return line.replace("DIR", &self.work_dir.to_string_lossy());
        }
        let mut line = String::new();
        if self.is_chosen(12) {
            line.push_str(self.pick(STARTS));
        }
        line.push_str(&self.pipeline());
        for _ in 0..self.below(3) / 2 + self.below(2) {
            line.push_str(self.pick(JOINTS));
            line.push_str(&self.pipeline());
        }
        if self.is_chosen(15) {
            line.push_str(self.pick(TAILS));
        }
        while self.is_chosen(35) {
            self.change_line(&mut line);
        }
        line.replace("DIR", &self.work_dir.to_string_lossy())
    }

    /// Inserts, removes or doubles a piece of the line.
    fn change_line(&mut self, line: &mut String) {
        let boundaries: Vec<usize> = line.char_indices().map(|(at, _)| at).collect();
        let at = boundaries.get(self.below(boundaries.len().max(1))).copied().unwrap_or_default();
        match self.below(6) {
            0 if at < line.len() => _ = line.remove(at),
            1 => {
                let quote = self.pick(&["'", "\""]);
                let end = line[at..].find(' ').map_or(line.len(), |space| at + space);
                line.insert_str(end, quote);
                line.insert_str(at, quote);
            }
            _ => line.insert_str(at, self.pick(SNIPPETS)),
        }
    }
}

/// Whether the letter at a place is a word of its own, and not a part of `LC_ALL`.
fn is_alone(text: &str, at: usize) -> bool {
    let is_part = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric() || "_-=".contains(char));
    let before = text[..at].chars().next_back().filter(|char| *char != '=');
    !is_part(before) && !is_part(text[at + 1..].chars().next())
}
