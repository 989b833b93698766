//! Calls of a group, one function for each route.

use causeway_protocol::{
    api::{
        AskSfu, AskUpgrade, CallMesh, CallPage, CallSfus, CallState, CallWhom, JoinCall,
        ReportCall, SetCall, StartCall,
    },
    ids::{CallId, DeviceId, GroupId, Seq},
};
use serde::Serialize;

use super::{super::call::CallError, Http};

impl Http {
    /// `GET groups/{id}/calls`: a page, the newest first.
    pub async fn calls(
        &self,
        group: GroupId,
        from: Option<Seq>,
        limit: u32,
    ) -> Result<CallPage, CallError> {
        let mut query = super::from_query(from);
        query.push(("limit", limit.to_string()));
        self.get(&["groups", &group.to_string(), "calls"], &query).await
    }

    /// `GET groups/{id}/calls/{call}`.
    pub async fn call(&self, group: GroupId, call: CallId) -> Result<CallState, CallError> {
        self.get(&["groups", &group.to_string(), "calls", &call.to_string()], &[]).await
    }

    /// `POST groups/{id}/calls`.
    pub async fn start_call(
        &self,
        group: GroupId,
        asked: &StartCall,
    ) -> Result<CallState, CallError> {
        self.post(&["groups", &group.to_string(), "calls"], asked).await
    }

    /// `POST groups/{id}/calls/{call}/join`.
    pub async fn join_call(
        &self,
        (group, call): (GroupId, CallId),
        asked: &JoinCall,
    ) -> Result<CallState, CallError> {
        self.about_call((group, call), "join", asked).await
    }

    /// `POST groups/{id}/calls/{call}/report`.
    pub async fn report_call(
        &self,
        (group, call): (GroupId, CallId),
        said: &ReportCall,
    ) -> Result<CallState, CallError> {
        self.about_call((group, call), "report", said).await
    }

    /// `POST groups/{id}/calls/{call}/sfu`: what lets this device into the home's server for calls, or into
    /// that of `focus`.
    pub async fn access_to_call(
        &self,
        (group, call): (GroupId, CallId),
        epoch: u32,
        focus: Option<String>,
    ) -> Result<CallSfus, CallError> {
        let path = ["groups", &group.to_string(), "calls", &call.to_string(), "sfu"];
        self.post(&path, &AskSfu { epoch, focus }).await
    }

    /// `GET groups/{id}/calls/{call}/mesh`: what helps this device to reach the others directly.
    pub async fn ways_of_call(
        &self,
        (group, call): (GroupId, CallId),
    ) -> Result<CallMesh, CallError> {
        self.get(&["groups", &group.to_string(), "calls", &call.to_string(), "mesh"], &[]).await
    }

    /// `POST groups/{id}/calls/{call}/upgrade`: there is no way to that device.
    pub async fn move_call(
        &self,
        call: (GroupId, CallId),
        with: DeviceId,
    ) -> Result<CallState, CallError> {
        self.about_call(call, "upgrade", &AskUpgrade { with }).await
    }

    /// `POST groups/{id}/calls/{call}/set`.
    pub async fn set_call(
        &self,
        (group, call): (GroupId, CallId),
        said: &SetCall,
    ) -> Result<CallState, CallError> {
        self.about_call((group, call), "set", said).await
    }

    /// `POST groups/{id}/calls/{call}/leave`.
    pub async fn leave_call(&self, group: GroupId, call: CallId) -> Result<CallState, CallError> {
        self.about_call((group, call), "leave", &serde_json::json!({})).await
    }

    /// `POST groups/{id}/calls/{call}/decline`.
    pub async fn decline_call(&self, group: GroupId, call: CallId) -> Result<CallState, CallError> {
        self.about_call((group, call), "decline", &serde_json::json!({})).await
    }

    /// `POST groups/{id}/calls/{call}/kick`: takes somebody out, by an admin.
    pub async fn kick_from_call(
        &self,
        call: (GroupId, CallId),
        whom: &CallWhom,
    ) -> Result<CallState, CallError> {
        self.about_call(call, "kick", whom).await
    }

    /// `POST groups/{id}/calls/{call}/mute`: mutes what somebody sends through the server for calls, by an
    /// admin.
    pub async fn mute_in_call(
        &self,
        call: (GroupId, CallId),
        whom: &CallWhom,
    ) -> Result<CallState, CallError> {
        self.about_call(call, "mute", whom).await
    }

    /// `POST groups/{id}/calls/{call}/end`.
    pub async fn end_call(&self, group: GroupId, call: CallId) -> Result<CallState, CallError> {
        self.about_call((group, call), "end", &serde_json::json!({})).await
    }

    async fn about_call<B: Serialize + ?Sized>(
        &self,
        (group, call): (GroupId, CallId),
        what: &str,
        body: &B,
    ) -> Result<CallState, CallError> {
        self.post(&["groups", &group.to_string(), "calls", &call.to_string(), what], body).await
    }
}
