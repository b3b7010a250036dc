import Testing

@testable import Orchestrator

/// A model of two hosts, one store and one link: every interleaving of messages, losses and crashes that the two state
/// machines can meet, explored exhaustively, against the invariants of the design.
@Suite("The hand-off's state machines")
struct HandoffStateMachineTests {
    @Test("never let two copies run, never lose both, whatever is lost and whoever answers late")
    func exhaustive() {
        var explorer = Explorer()
        for late in [false, true] { explorer.explore(Model(late: late)) }
        #expect(explorer.seen.count > 100)
        #expect(explorer.violations.isEmpty, "\(explorer.violations.prefix(3))")
        #expect(explorer.moved > 0)
        #expect(explorer.returned > 0)
        #expect(explorer.kept > 0)
    }

    @Test("resume the source at once where the destination was never given a whole cut")
    func rollbackBeforeCut() {
        var machine = SourceHandoff()
        _ = machine.on(.start)
        _ = machine.on(.prepared)
        _ = machine.on(.checkpointed)
        let effects = machine.on(.contactLost(lost))
        #expect(effects.map(name) == ["resumeLocal", "abandonDestination", "fail"])
    }

    @Test("read the store before anything where contact is lost after the cut was whole")
    func doubtAfterCut() {
        var machine = SourceHandoff()
        for event in [SourceHandoff.Event.start, .prepared, .checkpointed, .copied] { _ = machine.on(event) }
        #expect(machine.on(.contactLost(lost)).map(name) == ["readStore"])
        #expect(machine.on(.storeUnavailable).map(name) == ["readStore"])
        #expect(machine.on(.storeRead(ownedByUs: true)).map(name) == ["fence"])
        #expect(machine.on(.storeUnavailable).map(name) == ["readStore"])
        #expect(machine.on(.storeRead(ownedByUs: false)).map(name) == ["awaitResumed"])
        #expect(machine.on(.resumed(lacksPages: false)).map(name) == ["succeed", "destroyLocal"])
    }

    @Test("keep the frozen copy until the destination lacks nothing, and run it where it is given back")
    func supplying() {
        let steps = [SourceHandoff.Event.start, .prepared, .checkpointed, .copied]
        for (event, wanted) in [(SourceHandoff.Event.supplied, ["destroyLocal"]), (.returned, ["takeBack"])] {
            var machine = SourceHandoff()
            for step in steps { _ = machine.on(step) }
            #expect(machine.on(event).isEmpty)
            #expect(machine.on(.resumed(lacksPages: true)).map(name) == ["succeed", "supply"])
            #expect(machine.on(.contactLost(lost)).isEmpty)
            #expect(machine.on(event).map(name) == wanted)
            #expect(machine.on(.returned).isEmpty)
        }
    }

    @Test("ask an unanswered compare-and-swap again instead of guessing")
    func unansweredCommit() {
        var machine = DestinationHandoff()
        for event in [DestinationHandoff.Event.prepare, .staged, .cutComplete, .restored] { _ = machine.on(event) }
        #expect(machine.on(.commitUnanswered).map(name) == ["commit"])
        #expect(machine.on(.contactLost(lost)).isEmpty)
        #expect(machine.on(.committed).map(name) == ["resume"])
    }
}

private let lost = OrchestratorError(.handoffFailed, cause: "lost", remedy: "none")

private func name(_ effect: Any) -> String {
    let text = "\(effect)"
    return String(text.prefix { $0 != "(" })
}

/// One state of the whole system.
private struct Model {
    var source = SourceHandoff()
    var destination = DestinationHandoff()
    /// Effects that each side has still to perform.
    var sourceTodo: [SourceHandoff.Effect] = []
    var destinationTodo: [DestinationHandoff.Effect] = []
    /// The store: who owns the SMI, at which revision.
    var owner = "source"
    var revision = 1
    /// A compare-and-swap of the destination that was sent and not yet applied.
    var lateCommit = false
    var sourceRuns = true
    var sourceExists = true
    var destinationRuns = false
    var destinationRestored = false
    var linkUp = true
    var started = false
    /// The cut leaves pages, which the destination lacks until the source's frozen copy has given them.
    let late: Bool
    var destinationLacks = false
    var givenBack = false

    var key: String {
        "\(source.state)|\(destination.state)|\(sourceTodo.map(name))|\(destinationTodo.map(name))|\(owner)\(revision)"
            + "|\(lateCommit)\(sourceRuns)\(sourceExists)\(destinationRuns)\(destinationRestored)\(linkUp)\(started)"
            + "|\(late)\(destinationLacks)\(givenBack)"
    }

    mutating func feed(source event: SourceHandoff.Event) { sourceTodo += source.on(event) }
    mutating func feed(destination event: DestinationHandoff.Event) { destinationTodo += destination.on(event) }
}

private struct Explorer {
    var seen: Set<String> = []
    var violations: [String] = []
    var moved = 0
    var returned = 0
    var kept = 0

    mutating func explore(_ first: Model) {
        var stack = [first]
        while let model = stack.popLast() {
            guard seen.insert(model.key).inserted else { continue }
            check(model)
            let next = successors(of: model)
            if next.isEmpty {
                if model.destinationRuns { moved += 1 } else { kept += 1 }
                if model.givenBack { returned += 1 }
                if !model.sourceRuns && !model.destinationRuns { violations.append("nobody runs: \(model.key)") }
            }
            stack += next
        }
    }

    private mutating func check(_ model: Model) {
        if model.sourceRuns && model.destinationRuns { violations.append("two run: \(model.key)") }
        if !model.sourceExists && !model.destinationRestored { violations.append("both lost: \(model.key)") }
        if !model.sourceExists && model.destinationLacks { violations.append("pages lost: \(model.key)") }
        if model.destinationRuns && model.owner != "destination" { violations.append("runs unowned: \(model.key)") }
    }

    private func successors(of model: Model) -> [Model] {
        var next: [Model] = []
        func branch(_ change: (inout Model) -> Void) {
            var copy = model
            change(&copy)
            next.append(copy)
        }
        if !model.started {
            branch {
                $0.started = true
                $0.feed(source: .start)
            }
            return next
        }
        if !model.sourceTodo.isEmpty { next += sourceSteps(model) }
        if !model.destinationTodo.isEmpty { next += destinationSteps(model) }
        if model.lateCommit { branch { Self.applyCommit(&$0) } }
        // Pages come, or do not: then the destination ends its copy before it changes the record.
        if model.destinationLacks, model.destinationRuns {
            branch { $0.destinationLacks = false }
            branch {
                ($0.destinationRuns, $0.destinationRestored, $0.destinationLacks) = (false, false, false)
                ($0.owner, $0.revision, $0.givenBack) = ("source", $0.revision + 1, true)
            }
        }
        // The link may break at any moment; both sides notice when they next use it.
        if model.linkUp && !(model.sourceTodo.isEmpty && model.destinationTodo.isEmpty) { branch { $0.linkUp = false } }
        if model.destination.state == .receiving && !model.linkUp {
            branch { $0.feed(destination: .contactLost(lost)) }
        }
        if model.source.state == .awaiting && !model.linkUp && model.sourceTodo.isEmpty {
            branch { $0.feed(source: .contactLost(lost)) }
        }
        return next
    }

    private static func applyCommit(_ model: inout Model) {
        model.lateCommit = false
        guard model.revision == 1 else { return }
        model.owner = "destination"
        model.revision = 2
    }

    private func sourceSteps(_ model: Model) -> [Model] {
        var next: [Model] = []
        func branch(_ change: (inout Model) -> Void) {
            var copy = model
            copy.sourceTodo.removeFirst()
            change(&copy)
            next.append(copy)
        }
        guard let effect = model.sourceTodo.first else { return [] }
        switch effect {
        case .prepareDestination:
            guard model.linkUp else {
                branch { $0.feed(source: .contactLost(lost)) }
                break
            }
            branch { $0.feed(destination: .prepare) }
        case .checkpoint:
            branch {
                $0.sourceRuns = false
                $0.feed(source: .checkpointed)
            }
            branch { $0.feed(source: .checkpointFailed(lost)) }
        case .sendCut:
            if model.linkUp { branch { $0.feed(source: .copied) } }
            branch { $0.feed(source: .contactLost(lost)) }
        case .completeCut:
            // Delivered, or lost on the way without the source knowing which.
            if model.linkUp { branch { $0.feed(destination: .cutComplete) } }
            branch { $0.feed(source: .contactLost(lost)) }
            if model.linkUp {
                branch {
                    $0.feed(destination: .cutComplete)
                    $0.feed(source: .contactLost(lost))
                }
            }
        case .abandonDestination:
            branch {
                if $0.linkUp { $0.feed(destination: .contactLost(lost)) }
                $0.linkUp = false
            }
        case .resumeLocal: branch { $0.sourceRuns = true }
        case .readStore:
            branch { $0.feed(source: .storeRead(ownedByUs: $0.owner == "source")) }
        case .fence:
            branch {
                guard $0.owner == "source" else { return $0.feed(source: .fenceLost) }
                $0.revision = 3
                $0.feed(source: .fenced)
            }
            // Applied, but the answer was lost.
            branch {
                if $0.owner == "source" { $0.revision = 3 }
                $0.feed(source: .storeUnavailable)
            }
        case .awaitResumed:
            if model.destinationRuns { branch { $0.feed(source: .resumed(lacksPages: $0.late)) } }
            if model.givenBack { branch { $0.feed(source: .returned) } }
        case .supply:
            if model.givenBack {
                branch { $0.feed(source: .returned) }
            } else if !model.destinationLacks {
                branch { $0.feed(source: .supplied) }
            }
        case .takeBack: branch { $0.sourceRuns = true }
        case .destroyLocal: branch { $0.sourceExists = false }
        case .succeed, .fail: branch { _ in }
        }
        return next
    }

    private func destinationSteps(_ model: Model) -> [Model] {
        var next: [Model] = []
        func branch(_ change: (inout Model) -> Void) {
            var copy = model
            copy.destinationTodo.removeFirst()
            change(&copy)
            next.append(copy)
        }
        guard let effect = model.destinationTodo.first else { return [] }
        switch effect {
        case .stage:
            branch { $0.feed(destination: .staged) }
            branch { $0.feed(destination: .stageFailed(lost)) }
        case .sayPrepared:
            branch { $0.feed(source: $0.linkUp ? .prepared : .contactLost(lost)) }
        case .restore:
            branch {
                $0.destinationRestored = true
                $0.destinationLacks = $0.late
                $0.feed(destination: .restored)
            }
            branch { $0.feed(destination: .restoreFailed(lost)) }
        case .commit:
            branch {
                if $0.lateCommit { Self.applyCommit(&$0) }
                if $0.owner == "destination" { return $0.feed(destination: .committed) }
                Self.applyCommit(&$0)
                $0.feed(destination: $0.owner == "destination" ? .committed : .commitRefused(lost))
            }
            // Sent and unanswered: it may be applied later, or never.
            branch {
                $0.lateCommit = true
                $0.feed(destination: .commitUnanswered)
            }
        case .resume:
            branch {
                $0.destinationRuns = true
                $0.feed(destination: .resumed)
            }
        case .sayResumed:
            branch { if $0.linkUp { $0.feed(source: .resumed(lacksPages: $0.late)) } }
        case .discard: branch { ($0.destinationRestored, $0.destinationLacks) = (false, false) }
        case .sayRefused:
            branch { if $0.linkUp { $0.feed(source: .refused(lost)) } }
        case .recover: branch { _ in }
        }
        return next
    }
}
