/// The destination's side of one hand-off.
///
/// Pure: events in, effects out. It commits only with a whole cut restored and frozen, it thaws only after its
/// compare-and-swap is known to have been applied, and it tells the source that it gave up only when no commit of
/// this attempt can follow.
package struct DestinationHandoff: Sendable {
    /// Where the hand-off is.
    package enum State: Sendable, Equatable {
        case idle
        /// Net namespace, overlay, cgroups and CRIU are being made ready.
        case staging
        /// The cut is on its way.
        case receiving
        case restoring
        /// The compare-and-swap is under way; without an answer it is asked again until the store has said which.
        case committing
        /// We own the SMI; it is being thawed.
        case resuming
        case ended
    }

    /// What happened.
    package enum Event: Sendable {
        case prepare
        case staged
        case stageFailed(OrchestratorError)
        /// The whole cut is here and its checksums are right.
        case cutComplete
        case receiveFailed(OrchestratorError)
        /// All processes are there, stopped and frozen; CRIU may have to let go of them yet.
        case restored
        case restoreFailed(OrchestratorError)
        /// The source gave up or its connection failed.
        case contactLost(OrchestratorError)
        case committed
        /// The record was changed by somebody else: this attempt cannot win any more.
        case commitRefused(OrchestratorError)
        case commitUnanswered
        case resumed
        case resumeFailed(OrchestratorError)
    }

    /// What is to be done.
    package enum Effect: Sendable {
        case stage
        case sayPrepared
        case restore
        case commit
        case resume
        case sayResumed
        /// Destroys everything staged or restored here.
        case discard
        case sayRefused(OrchestratorError)
        /// We own an SMI that does not run: the start-up adoption is run for it, as after a daemon's restart.
        case recover(OrchestratorError)
    }

    package private(set) var state = State.idle

    /// A hand-off that has not begun.
    package init() {}

    /// Takes one event and says what to do next; an event that does not belong to the state changes nothing.
    package mutating func on(_ event: Event) -> [Effect] {
        switch (state, event) {
        case (.idle, .prepare):
            state = .staging
            return [.stage]
        case (.staging, .staged):
            state = .receiving
            return [.sayPrepared]
        case (.staging, .stageFailed(let error)),
            (.receiving, .receiveFailed(let error)),
            (.receiving, .contactLost(let error)),
            (.staging, .contactLost(let error)),
            (.restoring, .restoreFailed(let error)),
            (.restoring, .contactLost(let error)),
            (.committing, .commitRefused(let error)):
            state = .ended
            return [.discard, .sayRefused(error)]
        case (.receiving, .cutComplete):
            state = .restoring
            return [.restore]
        case (.restoring, .restored):
            state = .committing
            return [.commit]
        case (.committing, .commitUnanswered):
            // The same compare-and-swap again: applied already, it is recognised by its attempt's name.
            return [.commit]
        case (.committing, .committed):
            state = .resuming
            return [.resume]
        case (.resuming, .resumed):
            state = .ended
            return [.sayResumed]
        case (.resuming, .resumeFailed(let error)):
            state = .ended
            return [.recover(error)]
        default:
            return []
        }
    }
}
