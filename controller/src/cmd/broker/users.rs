//! Broker users of agents and controllers: made, given their rights, taken back. It never touches a user that is
//! neither.

use anyhow::{Result, anyhow};
use muster_proto::signing::to_hex;
use muster_proto::topology::{Permissions, agent_permissions, controller_permissions};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::exit::usage;

/// What there is under a user's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No user.
    Nobody,
    /// A user that Muster made for the same purpose.
    Ours,
}

/// Looks for a user, whose right to declare would start like `permissions` says.
///
/// Broker users are the whole broker's and not the vhost's: a host called like an administrator must not take the
/// administrator's password away.
///
/// # Errors
/// When the name belongs to somebody else, or the API refuses.
pub(super) async fn look_for(
    admin: &Admin,
    name: &str,
    permissions: &Permissions,
) -> Result<Found> {
    let Some(user) = admin.get(&["users", name]).await? else {
        return Ok(Found::Nobody);
    };
    let granted = admin.get(&["users", name, "permissions"]).await?;
    if is_ours(
        &user,
        granted.as_ref().unwrap_or(&Value::Null),
        admin.vhost(),
        permissions,
    ) {
        return Ok(Found::Ours);
    }
    Err(usage(format!(
        "the broker has a user {name:?} that Muster did not make: nothing was changed; take another name, or delete \
         that user"
    )))
}

/// Whether a user has no tags, and no rights but those that Muster gives for this purpose, in this vhost. One without
/// any rights is what an enrolment leaves that was cut off.
fn is_ours(user: &Value, granted: &Value, vhost: &str, permissions: &Permissions) -> bool {
    let tagged = match user.get("tags") {
        Some(Value::Array(tags)) => tags.iter().any(|tag| tag != ""),
        Some(Value::String(tags)) => !tags.is_empty(), // before RabbitMQ 3.9
        _ => false,
    };
    // Up to the name that follows, so that a later version may grant otherwise.
    let purpose: String = permissions
        .configure
        .chars()
        .take(r"^muster\.ctl\.".len())
        .collect();
    let all_ours = granted.as_array().is_none_or(|granted| {
        granted.iter().all(|grant| {
            let configure = grant
                .get("configure")
                .and_then(Value::as_str)
                .unwrap_or_default();
            grant.get("vhost").and_then(Value::as_str) == Some(vhost)
                && configure.starts_with(&purpose)
        })
    });
    !tagged && all_ours
}

/// 32 random bytes as hexadecimal digits, which no file format and no shell has to quote.
pub(super) fn new_password() -> Result<SecretString> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow!("get random bytes for a password: {error}"))?;
    Ok(to_hex(&bytes).into())
}

/// Makes a user, or gives it a new password, and gives it exactly `permissions`.
///
/// # Errors
/// When the API refuses. Until all is done the user has no rights in the vhost, or those that it had.
pub(super) async fn put(
    admin: &Admin,
    name: &str,
    password: &SecretString,
    permissions: &Permissions,
) -> Result<()> {
    admin
        .put(
            &["users", name],
            &json!({ "password": password.expose_secret(), "tags": "" }),
        )
        .await?;
    // The routing keys first: there is no moment at which it may write all of them.
    for topic in &permissions.topics {
        let body = json!({ "exchange": topic.exchange, "write": topic.write, "read": topic.read });
        admin
            .put(&["topic-permissions", admin.vhost(), name], &body)
            .await?;
    }
    let body = json!({ "configure": permissions.configure, "write": permissions.write, "read": permissions.read });
    admin
        .put(&["permissions", admin.vhost(), name], &body)
        .await?;
    Ok(())
}

/// Gives the agents and operators of the vhost the rights that this version gives. The names of those that lacked some.
///
/// # Errors
/// When the API refuses.
pub(super) async fn renew(admin: &Admin) -> Result<Vec<String>> {
    let grants = admin.get(&["vhosts", admin.vhost(), "permissions"]).await?;
    let mut renewed = Vec::new();
    for grant in grants
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let Some((name, wanted)) = outdated(grant) else {
            continue;
        };
        let body =
            json!({ "configure": wanted.configure, "write": wanted.write, "read": wanted.read });
        admin
            .put(&["permissions", admin.vhost(), name], &body)
            .await?;
        renewed.push(name.to_owned());
    }
    Ok(renewed)
}

/// The user of a grant that an earlier version gave, and what it is to be.
fn outdated(grant: &Value) -> Option<(&str, Permissions)> {
    let text = |key| grant.get(key).and_then(Value::as_str);
    let (name, configure) = (text("user")?, text("configure")?);
    let of_agent = name.parse().ok().map(|host| agent_permissions(&host));
    let wanted = [of_agent, Some(controller_permissions())]
        .into_iter()
        .flatten()
        .find(|wanted| wanted.configure == configure)?;
    let same = text("write")? == wanted.write && text("read")? == wanted.read;
    (!same).then_some((name, wanted))
}

#[cfg(test)]
mod tests {
    use muster_proto::topology::{agent_permissions, controller_permissions};

    use super::*;

    #[test]
    fn only_users_that_muster_made_for_the_same_purpose_are_touched() {
        let Ok(host) = "lb1".parse() else {
            return assert_eq!("lb1", "a host name");
        };
        let agent = agent_permissions(&host);
        let controller = controller_permissions();
        let user = |tags: Value| json!({ "name": "lb1", "tags": tags });
        let grant =
            |vhost: &str, configure: &str| json!([{ "vhost": vhost, "configure": configure }]);
        for (tags, granted, permissions, want) in [
            (json!([]), grant("v", &agent.configure), &agent, true),
            (json!(""), grant("v", &agent.configure), &agent, true),
            (json!([]), json!([]), &agent, true),
            (
                json!([]),
                grant("v", &controller.configure),
                &controller,
                true,
            ),
            (json!([]), grant("v", &controller.configure), &agent, false),
            (json!([]), grant("v", &agent.configure), &controller, false),
            (json!(["administrator"]), json!([]), &agent, false),
            (json!("management"), json!([]), &agent, false),
            (json!([]), grant("v", ".*"), &agent, false),
            (json!([]), grant("other", &agent.configure), &agent, false),
        ] {
            assert_eq!(
                is_ours(&user(tags.clone()), &granted, "v", permissions),
                want,
                "{tags} {granted}"
            );
        }
    }

    #[test]
    fn rights_of_an_earlier_version_are_renewed_and_those_of_others_left_alone() {
        let Ok(host) = "lb1".parse() else {
            return assert_eq!("lb1", "a host name");
        };
        let (agent, controller) = (agent_permissions(&host), controller_permissions());
        let grant = |user: &str, of: &Permissions, write: &str| json!({ "user": user, "configure": of.configure, "write": write, "read": of.read });
        let old = r"^(muster\.agent\.lb1|muster\.(jobs|replies|events|metrics))$";
        for (grant, want) in [
            (grant("lb1", &agent, old), Some(&agent)),
            (grant("lb1", &agent, &agent.write), None),
            (grant("lb2", &agent, old), None),
            (grant("ops", &controller, "^muster"), Some(&controller)),
            (grant("ops", &controller, &controller.write), None),
            (
                json!({ "user": "admin", "configure": ".*", "write": ".*", "read": ".*" }),
                None,
            ),
        ] {
            let found = outdated(&grant).map(|(_, wanted)| wanted.write);
            assert_eq!(found.as_ref(), want.map(|want| &want.write), "{grant}");
        }
    }

    #[test]
    fn passwords_are_long_and_differ() -> Result<()> {
        let (one, two) = (new_password()?, new_password()?);
        assert_eq!(one.expose_secret().len(), 64);
        assert_ne!(one.expose_secret(), two.expose_secret());
        Ok(())
    }
}
