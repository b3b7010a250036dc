/// When the SMI of one user is to move, and where to: a pure state machine.
///
/// An association at an access point of another host moves the SMI there, at once or, where the user came straight back
/// (a flap), once they have stayed for a while. One hand-off at a time; what changed meanwhile is looked at when it has
/// ended. Only the user's movements move the SMI: one that was moved by hand stays until the next association.
package struct UserFollow: Sendable, Equatable {
    /// What happened.
    package enum Event: Sendable, Equatable {
        /// The user is at an access point of this host; `hold` is how long they have to stay first, in seconds.
        case at(host: String, hold: Double?)
        /// The user is at no access point, or at one that no host serves.
        case left
        /// The store gives the SMI to this host.
        case owned(by: String, generation: Int)
        /// The time of a `wait` is over.
        case elapsed(ticket: Int)
        /// The hand-off under way has ended, with the new owner and generation where it succeeded.
        case handedOff(to: String, generation: Int)
        case handOffFailed
    }

    /// What is to be done.
    package enum Effect: Sendable, Equatable {
        /// Say `elapsed` with this ticket after so many seconds.
        case wait(ticket: Int, seconds: Double)
        /// Begin a hand-off and say how it ended.
        case handOff(to: String)
        /// Give up until the user moves again: so many attempts in a row failed.
        case giveUp(attempts: Int)
    }

    /// Attempts at one hand-off before it is given up until the user moves again.
    package static let attempts = 5

    /// The host that owns the SMI.
    package private(set) var owner: String
    /// Whether a hand-off is under way.
    package private(set) var isMoving = false
    private var generation: Int
    private var wanted: String?
    private var hold: Double?
    private var ticket = 0
    private var failures = 0

    /// The follow-up of a user whose SMI is on `owner`.
    package init(owner: String, generation: Int) {
        self.owner = owner
        self.generation = generation
    }

    /// Takes an event and says what follows from it.
    package mutating func on(_ event: Event) -> [Effect] {
        switch event {
        case .at(let host, let hold):
            // Whatever was waited for is void: the user is somewhere else now.
            ticket += 1
            (wanted, self.hold, failures) = (host, hold, 0)
            return isMoving ? [] : follow()
        case .left:
            ticket += 1
            wanted = nil
            return []
        case .owned(let host, let generation):
            own(host, generation)
            return []
        case .elapsed(let ticket):
            guard ticket == self.ticket, !isMoving else { return [] }
            hold = nil
            return follow()
        case .handedOff(let host, let generation):
            isMoving = false
            failures = 0
            own(host, generation)
            return follow()
        case .handOffFailed:
            isMoving = false
            return failed()
        }
    }

    /// Later words about an earlier generation change nothing.
    private mutating func own(_ host: String, _ generation: Int) {
        guard generation >= self.generation else { return }
        (owner, self.generation) = (host, generation)
    }

    private mutating func follow() -> [Effect] {
        guard let wanted, wanted != owner else { return [] }
        if let hold { return [.wait(ticket: ticket, seconds: hold)] }
        isMoving = true
        return [.handOff(to: wanted)]
    }

    private mutating func failed() -> [Effect] {
        guard let wanted, wanted != owner else { return [] }
        // The user moved on meanwhile: that is another hand-off, with attempts of its own.
        if hold != nil { return follow() }
        failures += 1
        guard failures < Self.attempts else { return [.giveUp(attempts: failures)] }
        return [.wait(ticket: ticket, seconds: Double(1 << (failures - 1)))]
    }
}
