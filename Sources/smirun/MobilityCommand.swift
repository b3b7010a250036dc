import ArgumentParser
import Glibc
import Mobility

/// `smirun mobility …`: the predictor by itself.
struct MobilityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mobility",
        abstract: "Predict where users go next, from association records.",
        subcommands: [MobilityPredict.self, MobilityEvaluate.self]
    )
}

/// `smirun mobility predict`.
struct MobilityPredict: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "predict",
        abstract: "Association records on standard input, a prediction per association on standard output.",
        discussion: """
            Reads lines of day,t_s,user,ap,event,rssi_dbm and writes one JSON line per start or roam, before it learns
            from the record.
            """
    )

    @Option(name: .long, help: "AP map: CSV (ap,x_m,y_m or ap,lat,lon) or GeoJSON.")
    var aps: String?

    @Option(name: .long, help: "Lead times of the replica lists in seconds, separated by commas.")
    var lead = "5"

    @Option(name: .long, help: "Access points per replica list.")
    var replicas = 3

    func validate() throws {
        guard !leads.isEmpty, leads.allSatisfy({ $0 >= 0 && $0 <= 3600 }) else {
            throw ValidationError("--lead takes seconds between 0 and 3600, separated by commas")
        }
        guard (0...64).contains(replicas) else { throw ValidationError("--replicas takes a number from 0 to 64") }
    }

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        var source = DescriptorSource(descriptor: STDIN_FILENO)
        var sink = DescriptorSink(descriptor: STDOUT_FILENO)
        do {
            try MobilityCommands.predict(
                apsPath: aps,
                leads: leads,
                replicas: replicas,
                input: &source,
                output: &sink,
                diagnostics: MobilityFailure.warn
            )
        } catch {
            throw MobilityFailure.exit(error)
        }
    }

    private var leads: [Double] {
        let parts = lead.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) ?? .nan }
        return parts.contains { !$0.isFinite } ? [] : parts
    }
}

/// `smirun mobility evaluate`.
struct MobilityEvaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate",
        abstract: "Measure the predictor beside the baselines on recorded associations.",
        discussion:
            "Each directory holds aps.csv (or aps.geojson) and assoc.csv (or assoc.csv.gz); see docs/mobility.md."
    )

    @Argument(help: "Directories with recorded associations.")
    var directories: [String]

    @Option(name: .long, help: "Lead time of the replica figures in seconds.")
    var lead = 5.0

    @Option(name: .long, help: "Write a plot of accuracy and hit rate to this file.")
    var svg: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        let evaluations: [MobilityEvaluation]
        do {
            evaluations = try MobilityCommands.evaluate(directories: directories, lead: lead, svg: svg)
        } catch {
            throw MobilityFailure.exit(error)
        }
        if output.format == .json {
            try printJSON(evaluations)
        } else {
            print(EvaluationReport.table(evaluations), terminator: "")
        }
    }
}

/// How failures of the mobility commands are told.
enum MobilityFailure {
    static func warn(_ text: String) { tell("warning: \(text)\n") }

    static func exit(_ error: MobilityError) -> ExitCode {
        tell("error: \(error.cause)\nhelp: \(error.remedy)\n")
        return ExitCode(1)
    }

    private static func tell(_ text: String) {
        var sink = DescriptorSink(descriptor: STDERR_FILENO)
        // Where the standard error cannot be written, there is nobody to tell.
        try? sink.write(Array(text.utf8))
    }
}
