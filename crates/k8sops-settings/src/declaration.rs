//! Declarations: what stands behind the `=` of a field in [`options!`](crate::options).
//!
//! A constructor says whether a value must be there and so which type the field has; the methods add the rest:
//! `required(DURATION, "60s").variable("K8SOPS_MCP_CALL_TIMEOUT").live()`.

use std::collections::BTreeMap;

use crate::{
    descriptor::{FieldShape, SettingDescriptor},
    format::ValueFormat,
    scope::SettingScope,
};

/// What is declared of a setting: `V` is what its text becomes, `T` the type of the field.
pub struct SettingDeclaration<V: 'static, T> {
    pub(crate) format: ValueFormat<V>,
    pub(crate) default: &'static str,
    pub(crate) variable: &'static str,
    shape: FieldShape,
    example: &'static str,
    live: bool,
    read: FieldReader<V, T>,
}

enum FieldReader<V: 'static, T> {
    Declared(fn(&SettingDeclaration<V, T>, &mut SettingScope<'_>, &'static str) -> T),
    Custom(fn(&mut SettingScope<'_>, &'static str) -> T),
}

/// A setting that always has a value: `default`, where nothing else is set.
#[must_use]
pub const fn required<V>(format: ValueFormat<V>, default: &'static str) -> SettingDeclaration<V, V> {
    SettingDeclaration { default, ..declared(format, FieldShape::Value, read_required) }
}

/// A setting that may be absent.
#[must_use]
pub const fn optional<V>(format: ValueFormat<V>) -> SettingDeclaration<V, Option<V>> {
    declared(format, FieldShape::Value, read_optional)
}

/// A setting that is empty (`V::default()`) where nothing is set.
#[must_use]
pub const fn or_empty<V: Default>(format: ValueFormat<V>) -> SettingDeclaration<V, V> {
    declared(format, FieldShape::Value, read_or_empty)
}

/// A list of values; the strongest layer that has one replaces all others.
#[must_use]
pub const fn list<V>(format: ValueFormat<V>) -> SettingDeclaration<V, Vec<V>> {
    declared(format, FieldShape::Values, read_list)
}

/// A mapping of any names to values; the strongest layer that has one replaces all others.
#[must_use]
pub const fn map<V>(format: ValueFormat<V>) -> SettingDeclaration<V, BTreeMap<String, V>> {
    declared(format, FieldShape::NamedValues, read_map)
}

/// A setting that `read` reads in its own way. `format` describes the values at a key of that shape.
#[must_use]
pub const fn custom<V, T>(
    format: ValueFormat<V>,
    shape: FieldShape,
    read: fn(&mut SettingScope<'_>, &'static str) -> T,
) -> SettingDeclaration<V, T> {
    SettingDeclaration {
        default: "",
        variable: "",
        format,
        shape,
        example: "",
        live: false,
        read: FieldReader::Custom(read),
    }
}

const fn declared<V, T>(
    format: ValueFormat<V>,
    shape: FieldShape,
    read: fn(&SettingDeclaration<V, T>, &mut SettingScope<'_>, &'static str) -> T,
) -> SettingDeclaration<V, T> {
    SettingDeclaration {
        default: "",
        variable: "",
        format,
        shape,
        example: "",
        live: false,
        read: FieldReader::Declared(read),
    }
}

impl<V, T> SettingDeclaration<V, T> {
    /// Names the environment variable of the setting.
    #[must_use]
    pub const fn variable(mut self, variable: &'static str) -> Self {
        self.variable = variable;
        self
    }

    /// Gives a value for examples, where the default is none.
    #[must_use]
    pub const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    /// Marks the setting as one that a reload applies.
    #[must_use]
    pub const fn live(mut self) -> Self {
        self.live = true;
        self
    }

    fn read_value(&self, scope: &mut SettingScope<'_>, key: &'static str) -> Option<V> {
        scope.read_value(&self.format, key, self.variable, self.default)
    }

    /// Reads the field.
    pub fn read(&self, scope: &mut SettingScope<'_>, key: &'static str) -> T {
        match self.read {
            FieldReader::Declared(read) => read(self, scope, key),
            FieldReader::Custom(read) => read(scope, key),
        }
    }
}

/// Returns the row of a setting in tables. A function and not a method, so that [`options!`](crate::options) can name the type
/// of the field, from which the type of the format follows.
#[must_use]
pub const fn describe_setting<V, T>(
    declaration: &SettingDeclaration<V, T>,
    section: &'static str,
    key: &'static str,
    doc: &'static str,
) -> SettingDescriptor {
    SettingDescriptor {
        section,
        key,
        shape: declaration.shape,
        kind: declaration.format.kind(),
        doc,
        variable: declaration.variable,
        default: declaration.default,
        example: declaration.example,
        live: declaration.live,
        secret: declaration.format.is_secret(),
    }
}

fn read_required<V>(declaration: &SettingDeclaration<V, V>, scope: &mut SettingScope<'_>, key: &'static str) -> V {
    declaration.read_value(scope, key).expect("the format accepts the default; every default is read by a test")
}

fn read_optional<V>(
    declaration: &SettingDeclaration<V, Option<V>>,
    scope: &mut SettingScope<'_>,
    key: &'static str,
) -> Option<V> {
    declaration.read_value(scope, key)
}

fn read_or_empty<V: Default>(
    declaration: &SettingDeclaration<V, V>,
    scope: &mut SettingScope<'_>,
    key: &'static str,
) -> V {
    declaration.read_value(scope, key).unwrap_or_default()
}

fn read_list<V>(
    declaration: &SettingDeclaration<V, Vec<V>>,
    scope: &mut SettingScope<'_>,
    key: &'static str,
) -> Vec<V> {
    scope.read_list(&declaration.format, key)
}

fn read_map<V>(
    declaration: &SettingDeclaration<V, BTreeMap<String, V>>,
    scope: &mut SettingScope<'_>,
    key: &'static str,
) -> BTreeMap<String, V> {
    scope.read_map(&declaration.format, key)
}
