//! The OpenAPI document as one HTML page: no scripts, nothing loaded, readable without style.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn render(document: &Value) -> String {
    let mut page = String::with_capacity(128 * 1024);
    let info = &document["info"];
    let (title, version) = (text(&info["title"]), text(&info["version"]));
    page.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    put(
        &mut page,
        format_args!("<title>{title} API {version}</title><style>{STYLE}</style></head><body>"),
    );
    put(
        &mut page,
        format_args!("<header><h1>{title} API <small>{version}</small></h1>"),
    );
    page.push_str(&prose(&info["description"]));
    page.push_str("<p>For programs: <a href=\"/openapi.json\">openapi.json</a> (OpenAPI 3.1).</p></header>");
    contents(&mut page, document);
    page.push_str("<main>");
    for tag in items(&document["tags"]) {
        let name = text(&tag["name"]);
        put(&mut page, format_args!("<section><h2 id=\"{name}\">{name}</h2>"));
        page.push_str(&prose(&tag["description"]));
        for (path, method, operation) in operations(document, &tag["name"]) {
            show(&mut page, path, method, operation);
        }
        page.push_str("</section>");
    }
    page.push_str("<section><h2 id=\"types\">Types</h2>");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        put(
            &mut page,
            format_args!("<h3 id=\"type-{0}\">{0}</h3>", escape(name)),
        );
        page.push_str(&prose(&schema["description"]));
        page.push_str(&properties(schema));
    }
    page.push_str("</section></main></body></html>\n");
    page
}

fn contents(page: &mut String, document: &Value) {
    page.push_str("<nav><ul>");
    for tag in items(&document["tags"]) {
        let name = text(&tag["name"]);
        put(page, format_args!("<li><a href=\"#{name}\">{name}</a><ul>"));
        for (path, method, operation) in operations(document, &tag["name"]) {
            let (id, summary) = (text(&operation["operationId"]), text(&operation["summary"]));
            let (method, path) = (escape(&method.to_uppercase()), escape(path));
            put(
                page,
                format_args!("<li><a href=\"#{id}\" title=\"{method} {path}\">{summary}</a></li>"),
            );
        }
        page.push_str("</ul></li>");
    }
    page.push_str("<li><a href=\"#types\">types</a></li></ul></nav>");
}

fn show(page: &mut String, path: &str, method: &str, operation: &Value) {
    let (id, summary) = (text(&operation["operationId"]), text(&operation["summary"]));
    let (verb, path) = (escape(&method.to_uppercase()), escape(path));
    put(page, format_args!("<article id=\"{id}\"><h3>{summary}</h3>"));
    put(
        page,
        format_args!("<p class=\"route\"><b class=\"{method}\">{verb}</b> <code>{path}</code></p>"),
    );
    page.push_str(&prose(&operation["description"]));
    let parameters = items(&operation["parameters"]);
    if !parameters.is_empty() {
        page.push_str("<table><caption>Parameters</caption>");
        for parameter in parameters {
            row(
                page,
                &parameter["name"],
                &parameter["in"],
                &parameter["description"],
            );
        }
        page.push_str("</table>");
    }
    if let Some((media_type, media)) = fields(&operation["requestBody"]["content"]).next() {
        let needed = operation["requestBody"]["required"].as_bool().unwrap_or(false);
        let needed = if needed { "" } else { " (may be left out)" };
        let (media_type, kind) = (escape(media_type), kind(&media["schema"]));
        put(
            page,
            format_args!("<p>Body{needed}: <code>{media_type}</code>, {kind}</p>"),
        );
        if let Some(example) = media.get("example") {
            let example = escape(&serde_json::to_string_pretty(example).unwrap_or_default());
            put(page, format_args!("<pre>{example}</pre>"));
        }
    }
    page.push_str("<table><caption>Answers</caption>");
    for (status, response) in fields(&operation["responses"]) {
        let content: Vec<String> = fields(&response["content"])
            .map(|(media_type, media)| {
                format!(
                    "<code>{}</code><br>{}",
                    escape(media_type),
                    kind(&media["schema"])
                )
            })
            .collect();
        let content = content.join("<br>");
        let headers: String = fields(&response["headers"])
            .map(|(name, header)| {
                format!(
                    "<br><code>{}</code>: {}",
                    escape(name),
                    text(&header["description"])
                )
            })
            .collect();
        let description = inline(response["description"].as_str().unwrap_or_default());
        put(
            page,
            format_args!(
                "<tr><th>{}</th><td>{description}{headers}</td><td>{content}</td></tr>",
                escape(status)
            ),
        );
    }
    page.push_str("</table></article>");
}

fn row(page: &mut String, name: &Value, place: &Value, description: &Value) {
    let description = inline(description.as_str().unwrap_or_default());
    put(
        page,
        format_args!(
            "<tr><th><code>{}</code></th><td>{}</td><td>{description}</td></tr>",
            text(name),
            text(place)
        ),
    );
}

/// The fields of an object, or the words of an enumeration.
fn properties(schema: &Value) -> String {
    let mut table = String::from("<table>");
    let required = items(&schema["required"]);
    for (name, field) in fields(&schema["properties"]) {
        let needed = if required.iter().any(|known| known == name) {
            ""
        } else {
            "?"
        };
        let description = inline(field["description"].as_str().unwrap_or_default());
        put(
            &mut table,
            format_args!(
                "<tr><th><code>{}{needed}</code></th><td>{}</td><td>{description}</td></tr>",
                escape(name),
                kind(field)
            ),
        );
    }
    for choice in items(&schema["oneOf"]).iter().chain(items(&schema["anyOf"])) {
        let description = inline(choice["description"].as_str().unwrap_or_default());
        put(
            &mut table,
            format_args!(
                "<tr><th>{}</th><td colspan=\"2\">{description}</td></tr>",
                kind(choice)
            ),
        );
    }
    if let words @ [_, ..] = items(&schema["enum"]) {
        put(
            &mut table,
            format_args!("<tr><th>{}</th></tr>", alternatives(words)),
        );
    }
    table.push_str("</table>");
    table
}

/// A schema in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escape(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#type-{name}\">{name}</a>");
    }
    if let Some(item) = schema.get("contentSchema") {
        return format!("lines of {}", kind(item));
    }
    if let Some(value) = schema.get("const") {
        return format!("<code>{}</code>", escape(&value.to_string()));
    }
    if let words @ [_, ..] = items(&schema["enum"]) {
        return alternatives(words);
    }
    for keyword in ["anyOf", "oneOf"] {
        if let choices @ [_, ..] = items(&schema[keyword]) {
            return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    if let [first, ..] = items(&schema["allOf"]) {
        return kind(first);
    }
    let name = match &schema["type"] {
        Value::Array(names) => names.iter().map(text).collect::<Vec<_>>().join(" or "),
        name => text(name),
    };
    let name = if name == "array" {
        format!("array of {}", kind(&schema["items"]))
    } else {
        name
    };
    match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!("{name}, {least} to {most}"),
        (Value::Number(least), _) => format!("{name}, at least {least}"),
        _ => name,
    }
}

fn alternatives(words: &[Value]) -> String {
    let words = words
        .iter()
        .map(|word| format!("<code>{}</code>", escape(&word.to_string())));
    words.collect::<Vec<_>>().join(" or ")
}

fn operations<'a>(
    document: &'a Value,
    tag: &'a Value,
) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
    fields(&document["paths"]).flat_map(move |(path, methods)| {
        let tagged = fields(methods).filter(move |(_, operation)| items(&operation["tags"]).contains(tag));
        tagged.map(move |(method, operation)| (path, method, operation))
    })
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = value.as_object().into_iter().flat_map(Map::iter);
    fields.map(|(name, value)| (name.as_str(), value))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

/// Paragraphs of the little Markdown that descriptions use.
fn prose(value: &Value) -> String {
    let paragraphs = value.as_str().unwrap_or_default().split("\n\n");
    let paragraphs = paragraphs.filter(|paragraph| !paragraph.is_empty());
    paragraphs
        .map(|paragraph| format!("<p>{}</p>", inline(paragraph)))
        .collect()
}

/// Code between backticks, and what stands between pairs of asterisks.
fn inline(text: &str) -> String {
    between(&between(&escape(text), "`", "code"), "**", "strong")
}

fn between(text: &str, mark: &str, element: &str) -> String {
    let mut out = String::new();
    for (number, part) in text.split(mark).enumerate() {
        if number % 2 == 1 {
            put(&mut out, format_args!("<{element}>{part}</{element}>"));
        } else {
            out.push_str(part);
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = page.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_and_every_type_is_on_the_page_and_links_lead_somewhere() {
        let page = render(&api::document());
        for operation in api::operations() {
            assert!(
                page.contains(&format!("<article id=\"{}\">", operation.id)),
                "{}",
                operation.id
            );
        }
        for link in page.split("href=\"#").skip(1) {
            let target = link.split('"').next().unwrap();
            assert!(page.contains(&format!("id=\"{target}\"")), "#{target}");
        }
        assert!(!page.contains("<script"));
    }

    #[test]
    fn what_a_description_says_is_text() {
        assert_eq!(
            inline("`a<b` & **c**"),
            "<code>a&lt;b</code> &amp; <strong>c</strong>"
        );
    }
}
