//! A request that counts as a connection.

use std::sync::Arc;

use airssys_osl::grants::Denial;

use super::super::gate::Gate;

/// A request under way: it counts until its response's body is dropped.
pub(super) struct OpenRequest(Arc<Gate>);

impl OpenRequest {
    /// Counts one more beside `sockets`.
    ///
    /// # Errors
    /// [`Denial`]: there are as many as there may be.
    pub(super) fn begin(gate: &Arc<Gate>, sockets: usize) -> Result<Self, Denial> {
        gate.one_more("send an HTTP request", sockets)?;
        gate.request_opened();
        Ok(Self(Arc::clone(gate)))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.request_closed();
    }
}
