import Testing

@testable import Orchestrator

@Suite("Following one user")
struct UserFollowTests {
    private func follow() -> UserFollow { UserFollow(owner: "h1", generation: 1) }

    @Test("moves the SMI to the host of the access point, and on from there")
    func moves() {
        var follow = follow()
        #expect(follow.on(.at(host: "h1", hold: nil)) == [])
        #expect(follow.on(.at(host: "h2", hold: nil)) == [.handOff(to: "h2")])
        #expect(follow.on(.handedOff(to: "h2", generation: 2)) == [])
        #expect(follow.on(.at(host: "h3", hold: nil)) == [.handOff(to: "h3")])
        #expect(follow.on(.handedOff(to: "h3", generation: 3)) == [])
        #expect(follow.owner == "h3")
    }

    @Test("leaves the SMI where it is over a flap, and moves it once the user has stayed")
    func flaps() {
        var follow = follow()
        _ = follow.on(.at(host: "h2", hold: nil))
        _ = follow.on(.handedOff(to: "h2", generation: 2))
        #expect(follow.on(.at(host: "h1", hold: 3)) == [.wait(ticket: 2, seconds: 3)])
        #expect(follow.on(.at(host: "h2", hold: 3)) == [])
        #expect(follow.on(.elapsed(ticket: 2)) == [], "the user went back before the wait was over")
        #expect(follow.on(.at(host: "h1", hold: 3)) == [.wait(ticket: 4, seconds: 3)])
        #expect(follow.on(.elapsed(ticket: 4)) == [.handOff(to: "h1")])
    }

    @Test("does one hand-off at a time and looks again when it has ended")
    func oneAtATime() {
        var follow = follow()
        _ = follow.on(.at(host: "h2", hold: nil))
        #expect(follow.on(.at(host: "h3", hold: nil)) == [])
        #expect(follow.on(.at(host: "h1", hold: 3)) == [])
        #expect(follow.on(.at(host: "h3", hold: nil)) == [])
        #expect(follow.on(.handedOff(to: "h2", generation: 2)) == [.handOff(to: "h3")])
        #expect(follow.on(.at(host: "h2", hold: 3)) == [])
        #expect(follow.on(.handedOff(to: "h3", generation: 3)) == [.wait(ticket: 5, seconds: 3)])
        #expect(follow.on(.elapsed(ticket: 5)) == [.handOff(to: "h2")])
    }

    @Test("tries a failed hand-off again, later and later, and gives up until the user moves")
    func failures() {
        var follow = follow()
        _ = follow.on(.at(host: "h2", hold: nil))
        for attempt in 1..<UserFollow.attempts {
            #expect(follow.on(.handOffFailed) == [.wait(ticket: 1, seconds: Double(1 << (attempt - 1)))])
            #expect(follow.on(.elapsed(ticket: 1)) == [.handOff(to: "h2")])
        }
        #expect(follow.on(.handOffFailed) == [.giveUp(attempts: UserFollow.attempts)])
        #expect(follow.on(.elapsed(ticket: 1)) == [.handOff(to: "h2")], "only somebody who waits says so")
        #expect(follow.on(.handOffFailed) == [.giveUp(attempts: UserFollow.attempts + 1)])
        #expect(follow.on(.at(host: "h3", hold: nil)) == [.handOff(to: "h3")])
        #expect(follow.on(.handOffFailed) == [.wait(ticket: 2, seconds: 1)])
    }

    @Test("forgets a failed hand-off where the user went back meanwhile")
    func failedAndBack() {
        var follow = follow()
        _ = follow.on(.at(host: "h2", hold: nil))
        _ = follow.on(.at(host: "h1", hold: 3))
        #expect(follow.on(.handOffFailed) == [])
        _ = follow.on(.at(host: "h2", hold: nil))
        _ = follow.on(.left)
        #expect(follow.on(.handOffFailed) == [])
    }

    @Test("respects what is moved by hand, and old news change nothing")
    func byHand() {
        var follow = follow()
        _ = follow.on(.at(host: "h1", hold: nil))
        #expect(follow.on(.owned(by: "h3", generation: 2)) == [])
        #expect(follow.on(.owned(by: "h1", generation: 1)) == [])
        #expect(follow.owner == "h3")
        #expect(follow.on(.at(host: "h1", hold: nil)) == [.handOff(to: "h1")])
    }

    @Test("never begins a second hand-off before the first has ended, whatever happens", arguments: 0..<200)
    func anything(_ seed: Int) {
        var random = SeededRandom(state: UInt64(seed) &* 0x9e37_79b9 &+ 1)
        var follow = follow()
        var target: String?
        var generation = 1
        var waits: [Int] = []
        for _ in 0..<300 {
            let event: UserFollow.Event
            switch Int.random(in: 0..<8, using: &random) {
            case 0, 1: event = .at(host: "h\(Int.random(in: 1...3, using: &random))", hold: nil)
            case 2: event = .at(host: "h\(Int.random(in: 1...3, using: &random))", hold: 3)
            case 3: event = .left
            case 4: event = .elapsed(ticket: waits.randomElement(using: &random) ?? 0)
            case 5: event = .owned(by: "h1", generation: Int.random(in: 0..<max(generation, 1), using: &random))
            case 6 where target != nil:
                generation += 1
                event = .handedOff(to: target ?? "", generation: generation)
                target = nil
            case 7 where target != nil:
                event = .handOffFailed
                target = nil
            default: continue
            }
            for effect in follow.on(event) {
                switch effect {
                case .handOff(let host):
                    #expect(target == nil)
                    #expect(host != follow.owner)
                    target = host
                case .wait(let ticket, _): waits.append(ticket)
                case .giveUp: break
                }
            }
            #expect(follow.isMoving == (target != nil))
        }
    }
}

/// A small generator with a seed (SplitMix64), so that a failure can be met again.
private struct SeededRandom: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
