import ArgumentParser
import Foundation

/// `smirun bench …`.
struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "The performance figures, each beside its peer in the same run.",
        subcommands: [
            BenchLaunchCommand.self, BenchHandoffCommand.self, BenchTrackingCommand.self, BenchExecCommand.self,
            BenchCLICommand.self,
        ]
    )
}

/// What most benchmarks take.
struct BenchOptions: ParsableArguments {
    @Option(help: "How often each figure is measured; p99 is given from 100 on.")
    var runs = 10
    @OptionGroup var words: BenchWords

    func validate() throws {
        guard runs > 0 else { throw ValidationError("--runs must be at least 1") }
    }

    /// Says what is being done, where somebody watches.
    func say(_ text: String) {
        words.say(text)
    }

    /// Prints what was found.
    func show(_ report: BenchReport) throws {
        try words.show(report)
    }
}

/// How a benchmark says what it does and what it found.
struct BenchWords: ParsableArguments {
    @OptionGroup var output: OutputOptions

    /// Says what is being done, where somebody watches.
    func say(_ text: String) {
        if output.format != .json && isatty(2) == 1 { writeError(text + "\n") }
    }

    /// Prints what was found.
    func show(_ report: BenchReport) throws {
        if output.format == .json { try printJSON(report) } else { report.printTables() }
    }
}

/// Milliseconds from one instant to now.
func millisecondsSince(_ start: ContinuousClock.Instant) -> Double {
    (ContinuousClock.now - start) / .milliseconds(1)
}
