use crate::cluster::replica::Replica;

/// After the faults have stopped, all nodes hold the same sessions in the same state: P10.
pub(crate) fn replicas_agree<'a>(replicas: impl Iterator<Item = &'a Replica>) -> bool {
    let mut digests = replicas.map(Replica::digests);
    let Some(first) = digests.next() else {
        return true;
    };
    digests.all(|other| other == first)
}
