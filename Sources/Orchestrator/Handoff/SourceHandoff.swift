/// The source's side of one hand-off: which step follows which, and what is done when one fails.
///
/// Pure: events in, effects out. The rule it keeps is that the local copy runs again only where the destination
/// cannot have committed (it has not been given a whole cut, or it said so itself, or the store has been changed so
/// that its compare-and-swap must fail, or the destination has given the SMI back), and is destroyed only after the
/// destination has said 'resumed' and holds everything.
package struct SourceHandoff: Sendable {
    /// Where the hand-off is.
    package enum State: Sendable, Equatable {
        case idle
        /// The destination makes what can exist before the cut.
        case preparing
        /// The sandbox is being frozen and dumped.
        case checkpointing
        /// The cut crosses; the destination does not have all of it.
        case sending
        /// The destination has the whole cut and may commit at any moment.
        case awaiting
        /// Contact was lost while the destination could commit; both copies stay frozen until the store is read.
        case inDoubt
        /// The store says that we own the SMI; our own compare-and-swap makes the destination's fail.
        case fencing
        /// The destination owns the SMI but has not said 'resumed'; our copy stays frozen.
        case moved
        /// The SMI runs at the destination, which still lacks pages; our copy, frozen, is the only whole one.
        case supplying
        case ended
    }

    /// What happened.
    package enum Event: Sendable {
        case start
        case prepared
        case checkpointed
        /// The dump failed; the sandbox runs on, as before.
        case checkpointFailed(OrchestratorError)
        /// Every chunk of the cut has been handed to the transport, but not its end.
        case copied
        /// The destination gave up and will never commit this attempt.
        case refused(OrchestratorError)
        /// The connection failed or a time limit passed; what the destination does is unknown.
        case contactLost(OrchestratorError)
        /// The SMI runs at the destination.
        case resumed(lacksPages: Bool)
        /// The destination has no need of our copy any more.
        case supplied
        /// The destination has ended its copy and made us the owner again.
        case returned
        case storeRead(ownedByUs: Bool)
        case storeUnavailable
        case fenced
        /// Somebody else changed the record first.
        case fenceLost
    }

    /// What is to be done.
    package enum Effect: Sendable {
        case prepareDestination
        case checkpoint
        case sendCut
        /// Sends the end of the cut, after which the destination may commit, and waits for what it says.
        case completeCut
        /// Tells the destination to give up, where it can still be told.
        case abandonDestination
        /// Unblocks the network and thaws the local copy.
        case resumeLocal
        case readStore
        case fence
        /// Asks the destination until it says that the SMI runs there.
        case awaitResumed
        /// Gives the destination the pages that the cut has left.
        case supply
        /// The SMI goes on here, as it was at the freeze.
        case takeBack
        case destroyLocal
        case succeed
        case fail(OrchestratorError)
    }

    package private(set) var state = State.idle
    private var failure: OrchestratorError?

    /// A hand-off that has not begun.
    package init() {}

    /// Takes one event and says what to do next; an event that does not belong to the state changes nothing.
    package mutating func on(_ event: Event) -> [Effect] {
        switch (state, event) {
        case (.idle, .start):
            state = .preparing
            return [.prepareDestination]
        case (.preparing, .prepared):
            state = .checkpointing
            return [.checkpoint]
        case (.preparing, .refused(let error)), (.preparing, .contactLost(let error)):
            // Nothing was frozen yet.
            state = .ended
            return [.abandonDestination, .fail(error)]
        case (.checkpointing, .checkpointed):
            state = .sending
            return [.sendCut]
        case (.checkpointing, .checkpointFailed(let error)):
            state = .ended
            return [.abandonDestination, .fail(error)]
        case (.sending, .copied):
            state = .awaiting
            return [.completeCut]
        case (.sending, .refused(let error)), (.sending, .contactLost(let error)):
            // Without the end of the cut the destination cannot commit.
            state = .ended
            return [.resumeLocal, .abandonDestination, .fail(error)]
        default:
            return afterCut(event)
        }
    }

    private mutating func afterCut(_ event: Event) -> [Effect] {
        switch (state, event) {
        case (.awaiting, .resumed(let lacksPages)), (.inDoubt, .resumed(let lacksPages)),
            (.moved, .resumed(let lacksPages)):
            state = lacksPages ? .supplying : .ended
            return [.succeed, lacksPages ? .supply : .destroyLocal]
        case (.moved, .returned):
            // It was gone again before we heard that it ran there.
            state = .ended
            return [.resumeLocal, .fail(failure ?? Self.lost)]
        case (.supplying, .supplied):
            state = .ended
            return [.destroyLocal]
        case (.supplying, .returned):
            state = .ended
            return [.takeBack]
        case (.awaiting, .refused(let error)):
            state = .ended
            return [.resumeLocal, .fail(error)]
        case (.awaiting, .contactLost(let error)):
            state = .inDoubt
            failure = error
            return [.readStore]
        case (.inDoubt, .storeUnavailable):
            return [.readStore]
        case (.inDoubt, .storeRead(ownedByUs: true)):
            state = .fencing
            return [.fence]
        case (.inDoubt, .storeRead(ownedByUs: false)), (.fencing, .storeRead(ownedByUs: false)):
            state = .moved
            return [.awaitResumed]
        case (.fencing, .fenced):
            state = .ended
            return [.resumeLocal, .abandonDestination, .fail(failure ?? Self.lost)]
        case (.fencing, .fenceLost), (.fencing, .storeUnavailable):
            // An unanswered compare-and-swap may have been applied: only the store knows.
            state = .inDoubt
            return [.readStore]
        default:
            return []
        }
    }

    private static let lost = OrchestratorError(
        .handoffFailed,
        cause: "contact with the destination was lost during the hand-off",
        remedy: "check the link between the hosts and try again"
    )
}
