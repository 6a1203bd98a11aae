//! Types and example values as a person would write them.

use airssys::Function;
use wasmtime::component::Type;
use wasmtime::component::wasm_wave::wasm::{DisplayType, WasmType, WasmTypeKind};

/// Deepest nesting an example shows.
const EXAMPLE_DEPTH: usize = 4;

/// A type as WIT writes it.
pub(super) fn type_name(ty: &Type) -> String {
    DisplayType(ty).to_string()
}

/// `name: func(parameters) -> result`.
pub(super) fn signature(function: &Function) -> String {
    let parameters: Vec<String> = function
        .params
        .iter()
        .map(|(name, ty)| format!("{name}: {}", type_name(ty)))
        .collect();
    let results: Vec<String> = function.results.iter().map(type_name).collect();
    let arrow = if results.is_empty() { "" } else { " -> " };
    format!(
        "{}: func({}){arrow}{}",
        function.name,
        parameters.join(", "),
        results.join(", ")
    )
}

/// A value of that type, quoted for a shell where it has to be. Text that was given without its
/// quotes is handed back with them.
pub(super) fn example(ty: &Type, given: &str) -> String {
    if matches!(ty, Type::String) {
        let text = given.trim_matches(['"', '\'']);
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("'\"{}\"'", escaped.replace('\'', "'\\''"));
    }
    let value = value(ty, 0);
    let plain = value
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if plain {
        value
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}

fn value(ty: &impl WasmType, depth: usize) -> String {
    if depth > EXAMPLE_DEPTH {
        return String::from("...");
    }
    let inner = |ty: Option<_>| ty.map_or_else(String::new, |ty| value(&ty, depth + 1));
    match ty.kind() {
        WasmTypeKind::Bool => String::from("true"),
        WasmTypeKind::F32 | WasmTypeKind::F64 => String::from("1.5"),
        WasmTypeKind::Char => String::from("'x'"),
        WasmTypeKind::String => String::from("\"text\""),
        WasmTypeKind::List | WasmTypeKind::FixedLengthList => {
            format!("[{}]", inner(ty.list_element_type()))
        }
        WasmTypeKind::Tuple => {
            let values: Vec<String> = ty
                .tuple_element_types()
                .map(|ty| value(&ty, depth + 1))
                .collect();
            format!("({})", values.join(", "))
        }
        WasmTypeKind::Record => {
            let fields: Vec<String> = ty
                .record_fields()
                .map(|(name, ty)| format!("{name}: {}", value(&ty, depth + 1)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        WasmTypeKind::Option => format!("some({})", inner(ty.option_some_type())),
        WasmTypeKind::Result => match ty.result_types() {
            Some((Some(ok), _)) => format!("ok({})", value(&ok, depth + 1)),
            _ => String::from("ok"),
        },
        WasmTypeKind::Enum => ty
            .enum_cases()
            .next()
            .map_or_else(String::new, |case| case.into_owned()),
        WasmTypeKind::Variant => match ty.variant_cases().next() {
            Some((case, Some(ty))) => format!("{case}({})", value(&ty, depth + 1)),
            Some((case, None)) => case.into_owned(),
            None => String::new(),
        },
        WasmTypeKind::Flags => {
            let first = ty.flags_names().next();
            format!("{{{}}}", first.unwrap_or_default())
        }
        _ => String::from("42"),
    }
}
