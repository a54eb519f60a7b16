//! Typed calls of Lua scripts.
//!
//! [`script!`] declares the keys, arguments and reply of a script in one place. From the declaration it makes a struct that
//! the caller fills in by name, the order in which the values are sent, and the line of Lua that binds each value to a local
//! variable of the same name ([`ScriptSource`]). No position is written twice, so none can be wrong.

use std::{borrow::Cow, collections::BTreeSet, fmt::Write, time::Duration};

use redis::{Cmd, ErrorKind, FromRedisValue, ParsingError, RedisResult, ServerErrorKind, Value, aio::ConnectionLike};

/// A Lua script with the values of one call.
pub(super) trait Script {
    type Reply: ScriptReply;

    fn source() -> &'static ScriptSource;

    fn values(&self) -> ScriptValues<'_>;
}

/// What a script returns.
pub(super) trait ScriptReply: FromRedisValue {
    /// The first elements of the reply, one per variant; empty for a reply that is not an enum.
    const TAGS: &'static [&'static str] = &[];
}

impl ScriptReply for () {}
impl ScriptReply for Vec<String> {}

/// The text of a script, which the server knows by its digest.
pub(super) struct ScriptSource {
    text: String,
    /// Computes the digest. It does not run the script, because it would load the script on any node of a cluster.
    digest: redis::Script,
}

/// What a script declares, in the order in which the values are sent.
pub(super) struct ScriptParameters<'a> {
    pub(super) keys: &'a [&'a str],
    /// At most one: all keys after `keys`.
    pub(super) key_list: &'a [&'a str],
    pub(super) arguments: &'a [(&'a str, LuaType)],
    /// Lists after the arguments; each is sent with its length in front.
    pub(super) lists: &'a [(&'a str, &'a [(&'a str, LuaType)])],
}

impl ScriptSource {
    /// Puts the check of rights, shared functions and the declarations of the local variables in front of a script. They are
    /// on its first line, so that line numbers in the errors of Redis are those of the file.
    pub(super) fn new(body: &str, parameters: &ScriptParameters<'_>) -> Self {
        let functions = shared_functions(body);
        let text = check_rights(&(functions.clone() + body)) + &functions + &parameters.declare_locals() + body;
        Self { digest: redis::Script::new(&text), text }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// Functions that several scripts call, by name.
const SHARED_FUNCTIONS: [(&str, &str); 4] = [
    ("add_receipt", include_str!("lua/add_receipt.lua")),
    ("find_receipt", include_str!("lua/find_receipt.lua")),
    ("has_all_entries", include_str!("lua/has_all_entries.lua")),
    ("server_identity", include_str!("lua/server_identity.lua")),
];

/// Returns the shared functions that a script calls, on one line.
fn shared_functions(body: &str) -> String {
    let called = SHARED_FUNCTIONS.iter().filter(|(name, _)| body.contains(&format!("{name}(")));
    let lines = called.flat_map(|(_, text)| text.lines()).filter(|line| !line.trim_start().starts_with("--"));
    lines.map(|line| line.trim().to_owned() + " ").collect()
}

/// Returns Lua that fails if the user may not run one of the script's commands. Redis notices a missing right only when the
/// script gets there, and has then written what comes before. Servers before Redis 7 cannot tell earlier.
fn check_rights(body: &str) -> String {
    let calls = body.split("redis.call('").skip(1).filter_map(|rest| Some(rest.split_once('\'')?.0));
    let commands: BTreeSet<String> = calls.map(|command| format!("'{command}'")).collect();
    let commands = commands.into_iter().collect::<Vec<_>>().join(",");
    format!(
        "if redis.acl_check_cmd then for _, command in ipairs({{{commands}}}) do \
         local is_known, is_allowed = pcall(redis.acl_check_cmd, command, KEYS[1], KEYS[1], KEYS[1], KEYS[1]) \
         if is_known and not is_allowed then \
         return redis.error_reply('NOPERM this user has no permissions to run the ' .. command .. ' command') \
         end end end "
    )
}

impl ScriptParameters<'_> {
    fn declare_locals(&self) -> String {
        let mut lua = String::new();
        for (n, key) in (1..).zip(self.keys) {
            let _ = write!(lua, "local {key} = KEYS[{n}] ");
        }
        for key_list in self.key_list {
            let first = self.keys.len() + 1;
            let _ = write!(lua, "local {key_list} = {{unpack(KEYS, {first})}} ");
        }
        for (n, (argument, lua_type)) in (1..).zip(self.arguments) {
            let value = lua_type.expression(&format!("ARGV[{n}]"));
            let _ = write!(lua, "local {argument} = {value} ");
        }
        if !self.lists.is_empty() {
            let _ = write!(lua, "local list_start = {} ", self.arguments.len() + 1);
        }
        for (list, fields) in self.lists {
            let width = fields.len().max(1);
            let item = if fields.is_empty() {
                "ARGV[list_start + i]".to_owned()
            } else {
                let field = |(n, (name, lua_type)): (usize, &(&str, LuaType))| {
                    let value = lua_type.expression(&format!("ARGV[list_start + (i - 1) * {width} + {n}]"));
                    format!("{name} = {value}")
                };
                format!("{{{}}}", (1..).zip(*fields).map(field).collect::<Vec<_>>().join(", "))
            };
            let _ = write!(
                lua,
                "local {list} = {{}} for i = 1, tonumber(ARGV[list_start]) do {list}[i] = {item} end \
                 list_start = list_start + #{list} * {width} + 1 "
            );
        }
        lua
    }
}

/// What a value is in Lua. Numbers stay text: Redis compares and stores them exactly, Lua would round them.
#[derive(Debug, Clone, Copy)]
pub(super) enum LuaType {
    Text,
    /// `true` or `false`.
    Boolean,
    /// Text, or `nil`.
    Optional,
}

impl LuaType {
    fn expression(self, sent: &str) -> String {
        match self {
            Self::Text => sent.to_owned(),
            Self::Boolean => format!("{sent} == '1'"),
            Self::Optional => format!("({sent} ~= '' and {sent} or nil)"),
        }
    }
}

/// A value that a script can be given: always one argument.
pub(super) trait ScriptArgument {
    const LUA_TYPE: LuaType = LuaType::Text;

    fn encode(&self) -> Cow<'_, [u8]>;
}

impl ScriptArgument for u64 {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.to_string().into_bytes().into()
    }
}

impl ScriptArgument for usize {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.to_string().into_bytes().into()
    }
}

impl ScriptArgument for String {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.as_bytes().into()
    }
}

impl ScriptArgument for Vec<u8> {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.as_slice().into()
    }
}

/// In milliseconds.
impl ScriptArgument for Duration {
    fn encode(&self) -> Cow<'_, [u8]> {
        self.as_millis().to_string().into_bytes().into()
    }
}

impl ScriptArgument for bool {
    const LUA_TYPE: LuaType = LuaType::Boolean;

    fn encode(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(if *self { b"1" } else { b"0" })
    }
}

impl<T: ScriptArgument> ScriptArgument for Option<T> {
    const LUA_TYPE: LuaType = LuaType::Optional;

    fn encode(&self) -> Cow<'_, [u8]> {
        self.as_ref().map_or(Cow::Borrowed(&[]), T::encode)
    }
}

/// An element of a list that a script can be given: a plain value, or a record with named fields ([`script_record!`]).
pub(super) trait ScriptListItem {
    /// The fields of a record; empty for a plain value.
    const FIELDS: &'static [(&'static str, LuaType)];

    fn encode_to<'a>(&'a self, arguments: &mut Vec<Cow<'a, [u8]>>);
}

macro_rules! plain_list_item {
    ($($type:ty),+) => {$(
        impl ScriptListItem for $type {
            const FIELDS: &'static [(&'static str, LuaType)] = &[];

            fn encode_to<'a>(&'a self, arguments: &mut Vec<Cow<'a, [u8]>>) {
                arguments.push(self.encode());
            }
        }
    )+};
}

plain_list_item!(u64, String, Vec<u8>);

/// The keys and arguments of one call, in the order of the declaration.
#[derive(Default)]
pub(super) struct ScriptValues<'a> {
    keys: Vec<&'a str>,
    arguments: Vec<Cow<'a, [u8]>>,
}

impl<'a> ScriptValues<'a> {
    pub(super) fn push_key(&mut self, key: &'a str) {
        self.keys.push(key);
    }

    pub(super) fn push_argument(&mut self, argument: &'a impl ScriptArgument) {
        self.arguments.push(argument.encode());
    }

    pub(super) fn push_list<T: ScriptListItem>(&mut self, list: &'a [T]) {
        self.arguments.push(list.len().to_string().into_bytes().into());
        for item in list {
            item.encode_to(&mut self.arguments);
        }
    }
}

/// One call of a script, ready to be sent.
pub(super) struct ScriptCall<'a> {
    source: &'static ScriptSource,
    values: ScriptValues<'a>,
}

impl<'a> ScriptCall<'a> {
    pub(super) fn new<S: Script>(script: &'a S) -> Self {
        Self { source: S::source(), values: script.values() }
    }

    /// Runs the script on the node of its keys; sends its text if the node does not know it yet.
    pub(super) async fn execute(&self, connection: &mut (impl ConnectionLike + Send)) -> RedisResult<Value> {
        match self.command("EVALSHA", self.source.digest.get_hash()).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", &self.source.text).query_async(connection).await
            }
            reply => reply,
        }
    }

    /// Returns the command that runs the script, with its text: for pipelines, in which a script that the server does not know
    /// could not be sent again.
    pub(super) fn whole_command(&self) -> Cmd {
        self.command("EVAL", &self.source.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.values.keys.len()).arg(&self.values.keys);
        for argument in &self.values.arguments {
            command.arg(&**argument);
        }
        command
    }
}

/// A reply that begins with a tag, and what it carries.
pub(super) struct TaggedReply {
    tag: String,
    fields: std::vec::IntoIter<Value>,
}

impl FromRedisValue for TaggedReply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let mut fields = Vec::<Value>::from_redis_value(value)?.into_iter();
        let tag = String::from_redis_value(fields.next().unwrap_or(Value::Nil))?;
        Ok(Self { tag, fields })
    }
}

impl TaggedReply {
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    pub(super) fn next_field<T: FromRedisValue>(&mut self) -> Result<T, ParsingError> {
        T::from_redis_value(self.fields.next().unwrap_or(Value::Nil))
    }
}

/// Declares a script: a struct with its keys, arguments and lists, which its Lua file sees as local variables of the same
/// names.
macro_rules! script {
    (
        $(#[$doc:meta])*
        $name:ident = $file:literal -> $reply:ty {
            keys { $($key:ident),+ $(, ..$key_list:ident)? $(,)? }
            $(arguments { $($argument:ident: $argument_type:ty),+ $(,)? })?
            $(lists { $($list:ident: $item:ty),+ $(,)? })?
        }
    ) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub(super) $key: String,)+
            $(pub(super) $key_list: Vec<String>,)?
            $($(pub(super) $argument: $argument_type,)+)?
            $($(pub(super) $list: Vec<$item>,)+)?
        }

        impl $crate::redis::script::Script for $name {
            type Reply = $reply;

            fn source() -> &'static $crate::redis::script::ScriptSource {
                use $crate::redis::script::{self, ScriptParameters, ScriptSource};
                static SOURCE: std::sync::LazyLock<ScriptSource> = std::sync::LazyLock::new(|| {
                    let parameters = ScriptParameters {
                        keys: &[$(stringify!($key)),+],
                        key_list: &[$(stringify!($key_list))?],
                        arguments: &[
                            $($((stringify!($argument), <$argument_type as script::ScriptArgument>::LUA_TYPE)),+)?
                        ],
                        lists: &[$($((stringify!($list), <$item as script::ScriptListItem>::FIELDS)),+)?],
                    };
                    ScriptSource::new(include_str!($file), &parameters)
                });
                &SOURCE
            }

            fn values(&self) -> $crate::redis::script::ScriptValues<'_> {
                let mut values = $crate::redis::script::ScriptValues::default();
                $(values.push_key(&self.$key);)+
                $(for key in &self.$key_list {
                    values.push_key(key);
                })?
                $($(values.push_argument(&self.$argument);)+)?
                $($(values.push_list(&self.$list);)+)?
                values
            }
        }
    };
}

/// Declares a list element with named fields: a struct here, a table in Lua.
macro_rules! script_record {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        pub(super) struct $name {
            $(pub(super) $field: $type,)+
        }

        impl $crate::redis::script::ScriptListItem for $name {
            const FIELDS: &'static [(&'static str, $crate::redis::script::LuaType)] = &[
                $((stringify!($field), <$type as $crate::redis::script::ScriptArgument>::LUA_TYPE)),+
            ];

            fn encode_to<'a>(&'a self, arguments: &mut Vec<std::borrow::Cow<'a, [u8]>>) {
                use $crate::redis::script::ScriptArgument;
                $(arguments.push(self.$field.encode());)+
            }
        }
    };
}

/// Declares a reply that begins with a tag: an enum with a variant per tag.
macro_rules! script_reply {
    (
        $(#[$doc:meta])*
        $name:ident {
            $($tag:literal => $variant:ident $({ $($field:ident: $type:ty),+ })?),+ $(,)?
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq)]
        pub(super) enum $name {
            $($variant $({ $($field: $type),+ })?,)+
        }

        impl $crate::redis::script::ScriptReply for $name {
            const TAGS: &'static [&'static str] = &[$($tag),+];
        }

        impl redis::FromRedisValue for $name {
            fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
                #[allow(unused_mut, reason = "some replies carry nothing but the tag")]
                let mut reply = $crate::redis::script::TaggedReply::from_redis_value(value)?;
                match reply.tag() {
                    $($tag => Ok(Self::$variant $({ $($field: reply.next_field()?),+ })?),)+
                    tag => {
                        let tags = <Self as $crate::redis::script::ScriptReply>::TAGS;
                        Err(format!("a script returned {tag:?}; expected one of {tags:?}").into())
                    }
                }
            }
        }
    };
}

pub(super) use {script, script_record, script_reply};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locals_are_declared_in_the_order_of_the_values() {
        let parameters = ScriptParameters {
            keys: &["meta_key"],
            key_list: &["other_keys"],
            arguments: &[("epoch", LuaType::Text), ("only_if_idle", LuaType::Boolean), ("ttl_ms", LuaType::Optional)],
            lists: &[("events", &[]), ("fields", &[("name", LuaType::Text), ("value", LuaType::Optional)])],
        };
        let expected = "local meta_key = KEYS[1] local other_keys = {unpack(KEYS, 2)} \
            local epoch = ARGV[1] local only_if_idle = ARGV[2] == '1' \
            local ttl_ms = (ARGV[3] ~= '' and ARGV[3] or nil) local list_start = 4 \
            local events = {} for i = 1, tonumber(ARGV[list_start]) do events[i] = ARGV[list_start + i] end \
            list_start = list_start + #events * 1 + 1 \
            local fields = {} for i = 1, tonumber(ARGV[list_start]) do \
            fields[i] = {name = ARGV[list_start + (i - 1) * 2 + 1], \
            value = (ARGV[list_start + (i - 1) * 2 + 2] ~= '' and ARGV[list_start + (i - 1) * 2 + 2] or nil)} end \
            list_start = list_start + #fields * 2 + 1 ";
        assert_eq!(parameters.declare_locals(), expected);
    }

    #[test]
    fn list_is_sent_after_its_length() {
        let mut values = ScriptValues::default();
        let consumed = vec![7, 8];
        values.push_list::<u64>(&consumed);
        values.push_argument(&None::<String>);
        values.push_argument(&true);
        let sent: Vec<&[u8]> = values.arguments.iter().map(|argument| &**argument).collect();
        let expected: [&[u8]; 5] = [b"2", b"7", b"8", b"", b"1"];
        assert_eq!(sent, expected);
    }
}
