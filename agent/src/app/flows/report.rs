//! Conversations on the assembler's thread, which knows the processes and owns the outputs.

use crate::app::clock::boot_ns;
use crate::app::shared::{Shared, Thread};
use crate::config::{FlowLogs, FlowSettings};
use crate::export::Fanout;
use agent_core::flow::log::{self, Times};
use agent_core::flow::{Change, FlowChange, FlowMetrics};
use agent_core::span::Output;
use agent_core::trace::Assembler;
use std::sync::mpsc::Receiver;

/// From the thread that follows conversations.
pub enum Message {
    /// What happened.
    Changes(Vec<FlowChange>),
    /// An interval is over: metrics are due.
    Interval,
}

/// What is made of conversations.
pub struct FlowOutput {
    metrics: FlowMetrics,
    logs: FlowLogs,
    logged: u64,
}

/// The way from the other thread, and what is made of what comes.
pub struct FlowPart {
    /// Closed when that thread has ended.
    pub receiver: Receiver<Message>,
    /// What is made of it.
    pub output: FlowOutput,
}

/// What the conversations are seen with.
pub struct Surroundings<'a> {
    /// Knows the processes.
    pub assembler: &'a mut Assembler,
    /// Where results go.
    pub outputs: &'a mut Fanout,
    /// Where numbers are published.
    pub shared: &'a Shared,
}

impl FlowPart {
    /// As the settings say.
    pub fn new(receiver: Receiver<Message>, settings: FlowSettings) -> FlowPart {
        let metrics = FlowMetrics::new(settings.labels, settings.series);
        FlowPart { receiver, output: FlowOutput { metrics, logs: settings.logs, logged: 0 } }
    }

    /// Works on one message, when there is one: the rings must not wait for long.
    pub fn work(&mut self, surroundings: &mut Surroundings<'_>) {
        if let Ok(message) = self.receiver.try_recv() {
            self.output.take(message, surroundings);
        }
    }

    /// Works on all that comes until the other thread has ended.
    pub fn finish(&mut self, surroundings: &mut Surroundings<'_>) {
        while let Ok(message) = self.receiver.recv() {
            self.output.take(message, surroundings);
        }
    }
}

impl FlowOutput {
    fn take(&mut self, message: Message, surroundings: &mut Surroundings<'_>) {
        let now = boot_ns();
        let offset = surroundings.assembler.unix_offset(now);
        let times = Times { offset, unix_ns: now.saturating_add_signed(offset) };
        match message {
            Message::Changes(changes) => {
                for change in &changes {
                    self.change(change, times, surroundings);
                }
            }
            Message::Interval => {
                self.metrics.report(times.unix_ns, surroundings.outputs);
                surroundings.shared.publish_flows(self.metrics.samples());
                surroundings.shared.publish(Thread::FlowMetrics, self.metrics.ledger());
            }
        }
    }

    fn change(&mut self, change: &FlowChange, times: Times, surroundings: &mut Surroundings<'_>) {
        let conversation = &change.conversation;
        let ended = change.change == Change::End;
        if ended && !surroundings.shared.window().has(conversation.last_ns) {
            return;
        }
        let process = conversation.process.unwrap_or_default();
        let resource = surroundings.assembler.resource(process, conversation.last_ns);
        self.metrics.add(change, &resource, times.unix_ns);
        let logged = match self.logs {
            FlowLogs::None => false,
            FlowLogs::Ends => ended,
            FlowLogs::Intervals => true,
        };
        if logged {
            self.logged += 1;
            let outputs = &mut *surroundings.outputs;
            log::record(change, &resource, times, |record| outputs.log(record));
        }
    }
}
