// SPDX-License-Identifier: GPL-3.0-or-later
// WithJdbc.java URL RUN ROWS: as with_psycopg.py. After five times a statement is prepared on the server.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;

public class WithJdbc {
    public static void main(String[] words) throws Exception {
        String run = words[1];
        int rows = Integer.parseInt(words[2]);
        String errors = "";
        Properties secret = new Properties();
        secret.setProperty("password", System.getenv("PGPASSWORD"));
        try (Connection connection = DriverManager.getConnection(words[0], secret)) {
            try (PreparedStatement write = connection.prepareStatement("INSERT INTO clients VALUES (?, ?)")) {
                for (int number = 1; number <= rows && errors.isEmpty(); number++) {
                    write.setString(1, run);
                    write.setInt(2, number);
                    try {
                        write.executeUpdate();
                    } catch (SQLException error) {
                        errors = "\"" + error.getSQLState() + ": " + error.getMessage().replace('"', ' ') + "\"";
                    }
                    Thread.sleep(20);
                }
            }
            try (PreparedStatement read = connection.prepareStatement(
                    "SELECT pg_is_in_recovery(), count(*) FROM clients WHERE run = ?")) {
                boolean standby = false;
                int found = 0;
                for (int time = 0; time < 10; time++) {
                    read.setString(1, run);
                    try (ResultSet row = read.executeQuery()) {
                        row.next();
                        standby = row.getBoolean(1);
                        found = row.getInt(2);
                    }
                }
                System.out.printf("{\"standby\": %b, \"rows\": %d, \"errors\": [%s]}%n", standby, found, errors);
            }
        }
    }
}
