//! Folding of identical replies: hosts that said the same, said once.

/// Hosts, or whatever they are, with the same value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Group<M, V> {
    /// Who, in order of appearance.
    pub members: Vec<M>,
    /// What they all have.
    pub value: V,
}

/// Groups members by equal value. The smallest groups come first: what few say is what is unusual. Among groups of the
/// same size the order is that of appearance.
pub fn fold<M, V: PartialEq>(pairs: impl IntoIterator<Item = (M, V)>) -> Vec<Group<M, V>> {
    let mut groups: Vec<Group<M, V>> = Vec::new();
    for (member, value) in pairs {
        match groups.iter_mut().find(|group| group.value == value) {
            Some(group) => group.members.push(member),
            None => groups.push(Group {
                members: vec![member],
                value,
            }),
        }
    }
    groups.sort_by_key(|group| group.members.len());
    groups
}

/// The first `shown` names, and how many more there are: `lb1, lb2 (+3)`.
pub fn names<T: std::fmt::Display>(all: &[T], shown: usize) -> String {
    let mut text = all
        .iter()
        .take(shown)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if all.len() > shown {
        text.push_str(&format!(" (+{})", all.len() - shown));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_said_once_and_the_unusual_first() {
        let groups = fold([("a", 1), ("b", 2), ("c", 1), ("d", 1), ("e", 3)]);
        let said: Vec<_> = groups
            .iter()
            .map(|group| (names(&group.members, 2), group.value))
            .collect();
        assert_eq!(
            said,
            [
                ("b".to_owned(), 2),
                ("e".to_owned(), 3),
                ("a, c (+1)".to_owned(), 1)
            ]
        );
        assert!(fold(Vec::<(u8, u8)>::new()).is_empty());
    }
}
