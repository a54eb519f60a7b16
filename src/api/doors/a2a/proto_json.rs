//! Values as the JSON form of Protocol Buffers allows them: numbers and booleans also as text, `null` as absent.

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

/// Reads a 32-bit number.
pub(super) fn read_int32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(deserializer)? else { return Ok(None) };
    let number = match &value {
        Value::String(text) => text.trim().parse().ok(),
        // `5.0` is a whole number, too.
        value => value.as_i64().or_else(|| {
            let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
            number.to_string().parse().ok()
        }),
    };
    let number = number.and_then(|number| i32::try_from(number).ok());
    number.map(Some).ok_or_else(|| D::Error::custom(format!("{value} is not a 32-bit number")))
}

/// Reads a boolean.
pub(super) fn read_bool<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(deserializer)? else { return Ok(None) };
    match &value {
        Value::Bool(flag) => Ok(Some(*flag)),
        Value::String(text) if text == "true" => Ok(Some(true)),
        Value::String(text) if text == "false" => Ok(Some(false)),
        value => Err(D::Error::custom(format!("{value} is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_booleans_have_several_forms() {
        for (value, number) in [
            (json!(5), Some(Some(5))),
            (json!("5"), Some(Some(5))),
            (json!(5.0), Some(Some(5))),
            (json!(-1), Some(Some(-1))),
            (json!(null), Some(None)),
            (json!(5.5), None),
            (json!("x"), None),
            (json!(4_294_967_296_i64), None),
            (json!([5]), None),
        ] {
            assert_eq!(read_int32(value.clone()).ok(), number, "{value}");
        }
        for (value, flag) in [
            (json!(true), Some(Some(true))),
            (json!("false"), Some(Some(false))),
            (json!(null), Some(None)),
            (json!(1), None),
            (json!("yes"), None),
        ] {
            assert_eq!(read_bool(value.clone()).ok(), flag, "{value}");
        }
    }
}
