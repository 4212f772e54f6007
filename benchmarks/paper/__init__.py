"""The paper's tables: functions of the Feynman table, images."""
