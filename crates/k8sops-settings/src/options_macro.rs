//! The macro that declares options.

/// Declares a struct whose fields are settings.
///
/// `at "agent"` is the YAML path of the section; the path of a setting is that path and the name of its field. The
/// documentation of a field is the description of the setting. What follows `=` is a
/// [declaration](crate::declaration), a constant expression.
///
/// The struct implements [`SettingsSection`](crate::SettingsSection).
#[macro_export]
macro_rules! options {
    (
        $(#[doc = $section_doc:literal])*
        $(#[derive($($derived:path),* $(,)?)])?
        $struct_vis:vis struct $name:ident at $path:literal {
            $(
                $(#[doc = $doc:literal])*
                $field_vis:vis $field:ident : $type:ty = $declaration:expr
            ),* $(,)?
        }
    ) => {
        $(#[doc = $section_doc])*
        $(#[derive($($derived),*)])?
        $struct_vis struct $name {
            $(
                $(#[doc = $doc])*
                $field_vis $field: $type,
            )*
        }

        impl $crate::SettingsSection for $name {
            const SECTION: $crate::SectionDescriptor = $crate::SectionDescriptor {
                path: $path,
                doc: concat!($($section_doc, "\n"),*),
                settings: &[
                    $(
                        $crate::declaration::describe_setting::<_, $type>(
                            &$declaration,
                            $path,
                            stringify!($field),
                            concat!($($doc, "\n"),*),
                        ),
                    )*
                ],
            };

            fn read_from(scope: &mut $crate::SettingScope<'_>) -> Self {
                Self { $( $field: $declaration.read(scope, stringify!($field)), )* }
            }
        }
    };
}

/// Makes a [`ValueFormat`](crate::ValueFormat) that accepts one word for each variant of an enum.
///
/// ```
/// # use k8sops_settings::{ValueFormat, words};
/// #[derive(Debug, Clone, Copy, PartialEq)]
/// enum LogFormat { Text, Json }
/// const LOG_FORMAT: ValueFormat<LogFormat> = words! { "text" => LogFormat::Text, "json" => LogFormat::Json };
/// assert_eq!(LOG_FORMAT.parse("json"), Some(LogFormat::Json));
/// assert_eq!(LOG_FORMAT.kind().to_string(), "text or json");
/// ```
#[macro_export]
macro_rules! words {
    ($($word:literal => $value:expr),+ $(,)?) => {
        $crate::ValueFormat::words(&[$($word),+], |text| match text {
            $($word => Some($value),)+
            _ => None,
        })
    };
}
